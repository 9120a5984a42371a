"""Reads the config of a folder and the headers of its weights: the grid of an original one, or shards."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from converters.containers.duplicates import once
from converters.containers.files import Wrong, attempt, read_json, read_model_config, read_weights, refuse
from converters.containers.gguf_header import config_of
from converters.containers.names import CONFIG, MODEL_CONFIG
from converters.containers.shard_files import Shards, StoredFile, by_headers, by_index, said_of_nested
from converters.containers.weights import (
    CELL,
    GGUF,
    HF,
    INDEX,
    ORIGINAL,
    SPARSE,
    UNSUPPORTED,
    WeightSetChoice,
    choose,
    foreign,
    weight_sets,
)
from converters.errors import IntegrityError, NotFoundError, UnsupportedError
from converters.formats import gguf, shards
from converters.formats.folder import Folder, LocalFolder

Place = tuple[int, int]


@dataclass(frozen=True)
class FolderContents:
    """What a folder holds. files: by (tensor-parallel rank, pipeline stage); all shards are of (0, 0).
    notes: what a person should know of how it was read. choice: which of its sets of weights this is.
    configured: whether its config could be read. whole: whether every file could that should be there.
    stale: what is wrong with its index, if anything is. absent: which files are missing, if the tensors that
    are there turn out not to be all."""

    folder: Folder
    format: str
    config: Mapping[str, Any]
    config_file: str
    tp: int
    pp: int
    files: Mapping[Place, tuple[StoredFile, ...]]
    choice: WeightSetChoice
    notes: tuple[str, ...] = ()
    configured: bool = True
    whole: bool = True
    stale: str | None = None
    absent: tuple[IntegrityError, ...] = ()


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
        if choice.taken.form == ORIGINAL:
            return _original(folder, names, choice, wrong)
        if choice.taken.form == GGUF:
            return _gguf(folder, names, choice, wrong)
        return _huggingface(folder, names, choice, config(), wrong)


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
            way = f"--weights {other.name} takes {other.spoken} instead"
            error.fix = f"{error.fix}; {way}" if error.fix else way
        raise


def _original(folder: Folder, names: Sequence[str], choice: WeightSetChoice, wrong: Wrong) -> FolderContents:
    places = _places(folder, choice, wrong)
    tp, pp = _extents(places)
    whole = bool(places)
    for place in ((rank, stage) for stage in range(pp) for rank in range(tp)) if places else ():
        if place not in places:
            whole = False
            wrong(_hole(folder, place, tp, pp))
    read = {
        place: attempt(wrong, partial(read_weights, folder, wrong, places[place])) for place in sorted(places)
    }
    config = attempt(wrong, partial(read_model_config, folder, names))
    return FolderContents(
        folder,
        ORIGINAL,
        config or {},
        MODEL_CONFIG,
        tp,
        pp,
        {place: (file,) for place, file in read.items() if file},
        choice,
        (
            *_left_aside(names, choice, choice.taken.files),
            *said_of_nested(file for file in read.values() if file),
        ),
        configured=MODEL_CONFIG in names and config is not None,
        whole=whole and None not in read.values(),
    )


def _places(folder: Folder, choice: WeightSetChoice, wrong: Wrong) -> Mapping[Place, str]:
    if not choice.taken.standard:  # one file that was asked for by its name
        return {(0, 0): choice.taken.name}
    for name in choice.taken.files:
        variant = next((known for known, pattern in UNSUPPORTED.items() if pattern.fullmatch(name)), None)
        if variant:
            what = f"this checkpoint uses {variant}, which is not supported"
            wrong(UnsupportedError(what, folder.where(name)))
        elif not CELL.fullmatch(name):
            what = "it may be of the grid, but no such file name is known"
            wrong(UnsupportedError(what, folder.where(name), "move it elsewhere if it is not of the grid"))
    places = {place_of(name): name for name in choice.taken.files if CELL.fullmatch(name)}
    tp, pp = _extents(places)
    if not places or tp * pp <= SPARSE * len(places):
        return places
    wrong(_sparse(folder, places[max(places, key=sum)], tp, pp, len(places)))
    return {}


def _extents(places: Collection[Place]) -> Place:
    """Ranks and stages of the smallest grid that has them all."""
    tp, pp = (max((place[n] for place in places), default=0) + 1 for n in (0, 1))
    return tp, pp


def _sparse(folder: Folder, name: str, tp: int, pp: int, here: int) -> IntegrityError:
    return IntegrityError(
        f"its name is of a grid of {tp:,} tensor-parallel ranks and {pp:,} pipeline stages, and {here:,} of "
        f"{tp * pp:,} files {'is' if here == 1 else 'are'} there",
        folder.where(name),
        "fetch the others; or move it elsewhere, if it is not of the grid",
    )


def _hole(folder: Folder, place: Place, tp: int, pp: int) -> IntegrityError:
    return IntegrityError(
        f"model_tp{place[0]}_pp{place[1]}.pt is missing from the grid of {tp} tensor-parallel ranks and {pp} "
        "pipeline stages",
        folder.name,
        f"fetch model_tp{place[0]}_pp{place[1]}.pt",
    )


def place_of(name: str) -> Place:
    """Rank and stage that a file's name says, the name being one of CELL."""
    match = CELL.fullmatch(name)
    assert match is not None
    return int(match[1]), int(match[2])


def _huggingface(
    folder: Folder,
    names: Sequence[str],
    choice: WeightSetChoice,
    config: Mapping[str, Any] | None,
    wrong: Wrong,
) -> FolderContents:
    if CONFIG not in names:
        wrong(NotFoundError(f"{CONFIG} is missing", folder.where(CONFIG), "fetch it"))
    found = _shards(folder, choice, wrong)
    if not (found.files or found.absent or found.wanted):
        wrong(NotFoundError("there are no weights", folder.name, "fetch them"))
    files, twice = once(folder, found.files, wrong)
    return FolderContents(
        folder,
        HF,
        config or {},
        CONFIG,
        1,
        1,
        {(0, 0): files},
        choice,
        (*_left_aside(names, choice, [file.name for file in files]), *twice, *said_of_nested(files)),
        configured=config is not None,
        whole=len(found.files) == found.wanted and not found.absent,
        stale=found.stale,
        absent=found.absent,
    )


def _gguf(folder: Folder, names: Sequence[str], choice: WeightSetChoice, wrong: Wrong) -> FolderContents:
    """Its header is the config as well."""
    (name,) = choice.taken.files
    with closing(folder.open(name)) as file:
        index = attempt(wrong, partial(gguf.read_index, file))
    stored = (StoredFile(name, folder.where(name), index.tensors),) if index else ()
    return FolderContents(
        folder,
        GGUF,
        config_of(index.metadata) if index else {},
        name,
        1,
        1,
        {(0, 0): stored},
        choice,
        _left_aside(names, choice, choice.taken.files),
        configured=index is not None,
        whole=index is not None,
    )


def _shards(folder: Folder, choice: WeightSetChoice, wrong: Wrong) -> Shards:
    @cache
    def read(name: str) -> StoredFile | None:
        return attempt(wrong, partial(read_weights, folder, wrong, name))

    @cache
    def look(name: str) -> StoredFile | None:
        return attempt(lambda _: None, partial(read_weights, folder, refuse, name))

    taken = choice.taken
    if not taken.indexed:
        return by_headers(folder, taken.files, read)
    with closing(folder.open(taken.name)) as file:
        try:
            weight_map = shards.read_index(file)
        except IntegrityError as error:
            return replace(
                by_headers(folder, taken.files, read), stale=f"the index is no index: {error.what}"
            )
    suffix = taken.name.removesuffix(INDEX).rpartition(".")[2]
    spare = [one.name for one in choice.others if not one.standard and one.name.endswith(suffix)]
    return by_index(folder, weight_map, taken.files, spare, read, look)


def _left_aside(names: Sequence[str], choice: WeightSetChoice, used: Sequence[str]) -> tuple[str, ...]:
    """What is said of weights that are there and were not taken."""
    others = [one for one in choice.others if not one.files or not set(one.files) <= set(used)]
    spoken = [one.spoken for one in others]
    spoken += [name for name in choice.taken.files if name not in used]
    spoken += [f"{name} ({kind.what})" for name, kind in foreign(names)]
    if not spoken:
        return ()
    rivals = any(one.standard and one.form == choice.taken.form for one in others)
    why = ", which from_pretrained looks for first" if rivals and not choice.asked else ""
    way = f"; --weights {others[0].name} takes others" if others else ""
    return (f"the weights are {choice.taken.spoken}{why}; left aside: {', '.join(spoken)}{way}",)


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
