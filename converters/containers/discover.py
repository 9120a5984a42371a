"""Reads the config of a folder and the headers of its weights, as the container has them that is meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from converters.containers.choice import choose, weight_sets
from converters.containers.container import FolderContents, WeightSetChoice, Wrong
from converters.containers.files import attempt, read_json, refuse
from converters.containers.names import CONFIG
from converters.errors import IntegrityError, NotFoundError, parameter
from converters.formats.folder import Folder, LocalFolder


def discover(folder: Folder, weights: str | None = None, wrong: Wrong = refuse) -> FolderContents:
    """Read the config and all headers of a folder.

    weights: which of several sets: `original`, `hf` or the name of a file. wrong: told of every fault of its
    files. Raises NotFoundError if there is no checkpoint in it, UsageError if there are two and nothing says
    which is meant, UnsupportedError for weights of other programs; by default also UnsupportedError for
    variants that are recognised and not supported, IntegrityError for files that are missing or damaged.
    """
    names = folder.names()

    @cache
    def config() -> Mapping[str, Any] | None:
        return attempt(wrong, partial(read_json, folder, CONFIG)) if CONFIG in names else None

    with _folders_below_named(folder):
        choice = choose(names, folder.name, weights, lambda: (config() or {}).get("transformers_weights"))
    with other_weights_named(choice):
        return choice.taken.container.read(folder, choice, config, wrong)


@contextmanager
def _folders_below_named(folder: Folder) -> Iterator[None]:
    """Trainers save into folders of their own below the one that they were given, such as checkpoint-500."""
    try:
        yield
    except NotFoundError as error:
        below = folder.path.iterdir() if isinstance(folder, LocalFolder) else ()
        holding = sorted(one for one in below if one.is_dir() and weight_sets(LocalFolder(one).names()))
        if holding:
            error.fix = f"there are weights below it: name {' or '.join(map(str, holding[-2:]))}"
        raise


@contextmanager
def other_weights_named(choice: WeightSetChoice) -> Iterator[None]:
    """Adds to what can be done about damage that there are other weights."""
    try:
        yield
    except IntegrityError as error:
        other = next((one for one in choice.others if one.standard), None)
        if other and other.name not in (error.fix or ""):
            way = f"{parameter('weights', other.name)} takes {other.spoken} instead"
            error.fix = f"{error.fix}; {way}" if error.fix else way
        raise


def index_note(found: FolderContents) -> tuple[str, ...]:
    """What is said of a wrong index where the weights are whole without it."""
    return (f"{found.stale}; the headers of the files say where every tensor is",) if found.stale else ()


@contextmanager
def explained(found: FolderContents) -> Iterator[None]:
    """What does not fit, said by what is missing, and what else there is."""
    try:
        with other_weights_named(found.choice):
            yield
    except IntegrityError:
        if not found.absent:
            raise
        first, *others = found.absent
        more = f" (and {len(others)} more files are missing)" if others else ""
        with other_weights_named(found.choice):
            raise IntegrityError(first.what + more, first.where, first.fix) from None
