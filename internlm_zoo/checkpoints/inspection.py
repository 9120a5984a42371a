"""`inspect` of whatever a user can name, with what the registry knows of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import converters
from converters import Inspection
from converters.formats.access import is_directory, no_directory
from converters.formats.folder import Folder, LocalFolder
from converters.inspection.finding import Finding, noting
from internlm_zoo.checkpoints.contradictions import Contradiction, contradictions, expected_of
from internlm_zoo.checkpoints.facts import known_facts, same_shape, shortened
from internlm_zoo.checkpoints.identity import recorded_model
from internlm_zoo.checkpoints.quantised import called
from internlm_zoo.progress import Progress
from internlm_zoo.registry import Model, Registry, load_registry
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.settings import Settings


@dataclass(frozen=True)
class InspectionRequest:
    """target: a directory; a model of the registry, in the store or else where a hub has it;
    `hub:repo[@revision]`; a URL. fix_index: first write a right index where whole weights have a wrong one or
    none, which progress is told of. known_as: the registry model that it holds. given: facts that it does not
    state. weights: which of several sets."""

    target: str | Path
    deep: bool = False
    fix_index: bool = False
    known_as: str | None = None
    given: Mapping[str, Any] | None = None
    weights: str | None = None
    workers: int | None = None


def inspect(
    request: InspectionRequest, *, settings: Settings, progress: Progress | None = None
) -> Inspection:
    """What a checkpoint is and what is wrong with it. What is on the network is read by ranges and not
    stored. Raises NotFoundError if it holds no checkpoint, and what reading from a hub raises."""
    registry = load_registry(settings)
    named = registry.model(request.known_as) if request.known_as else None
    tell = (progress or Progress()).note
    with opened(str(request.target), registry, settings, tell) as (folder, model, release):
        entry = named or model or _recorded(folder, registry)
        known = known_facts(entry, registry)
        if request.fix_index:
            tell(_index_fixed(folder, request, known))
        found = converters.inspect(
            folder,
            deep=request.deep,
            given=request.given,
            known=known,
            weights=request.weights,
            workers=request.workers,
            progress=progress,
        )
        found = replace(found, findings=(*found.findings, *_contradicted(folder, request, entry, registry)))
    if told := called(release, registry):
        found = replace(found, notes=(*found.notes, told))
    return found if entry else _with_shape(found, registry)


def _index_fixed(folder: Folder, request: InspectionRequest, known: Mapping[str, Any]) -> str:
    fixed = converters.fix_index(folder, request.given, known, request.weights)
    if fixed is None:
        return "no index is wrong or missing: nothing was written"
    kept = f"; the old one is {fixed.kept}" if fixed.kept else ""
    return f"wrote {fixed.index}: {fixed.tensors} tensors in {fixed.files} files{kept}"


def _recorded(folder: Folder, registry: Registry) -> Model | None:
    """A record that cannot be read is among what is found of the checkpoint itself."""
    return noting([], partial(recorded_model, folder, registry))


def _contradicted(
    folder: Folder, request: InspectionRequest, entry: Model | None, registry: Registry
) -> Iterator[Finding]:
    """Where its files say otherwise than the registry does of the model that it is; nothing of one that does
    not open, for which there are findings already."""

    def compared() -> list[Contradiction]:
        known = known_facts(entry, registry)
        checkpoint = converters.open_checkpoint(folder, request.given, known, request.weights)
        return contradictions(checkpoint, expected_of(entry, registry)) if entry else []

    for one in noting([], compared) or ():
        fix = "correct it there, or say with `known_as=MODEL` which model it is"
        yield Finding(f"not {entry and entry.name}: {one}", None, fix)


def _with_shape(found: Inspection, registry: Registry) -> Inspection:
    """Says which models of the registry it may be, where nothing else has said which it is."""
    alike = same_shape({name: fact.value for name, fact in found.known.items()}, registry)
    if not alike:
        return found
    note = f"this has the shape of {shortened(alike)}; `known_as=MODEL` says which it is"
    return replace(found, notes=(*found.notes, note))


@contextmanager
def opened(
    target: str, registry: Registry, settings: Settings, tell: Callable[[str], None]
) -> Iterator[tuple[Folder, Model | None, LockedRelease | None]]:
    """Whatever a user can name (`InspectionRequest`): what is not here is read where a hub has it. With the
    model of the registry that it is, and the release, where that is known."""
    from internlm_zoo.downloads.on_demand import find_model
    from internlm_zoo.store.locate import whole_releases

    known = target in registry.models
    if is_directory(target) or (known and whole_releases(target, settings)):
        found = find_model(target, settings=settings)
        yield LocalFolder(found.path), found.model, found.release
        return
    if not known and ":" not in target and len(Path(target).parts) > 1:
        raise no_directory(target)
    from internlm_zoo.remote.folder import open_remote

    with open_remote(target, settings, tell=tell) as remote:
        yield remote, remote.model, remote.release
