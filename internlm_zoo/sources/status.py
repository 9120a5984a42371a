"""Whether the hubs that publish a model publish the same: every release held against the first of its format.

What a hub keeps beside a model for itself (README, its own settings) does not count. A hub that lists neither
sizes nor digests can only be told apart by what an earlier download of it has found, or by its file names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Literal

from internlm_zoo.errors import AccessError, CredentialError, NotFoundError, ZooError
from internlm_zoo.registry import Model, Registry, Release
from internlm_zoo.registry.lock import Lock, LockedRelease
from internlm_zoo.settings import Settings
from internlm_zoo.sources.lock_update import Resolved, resolve_all

State = Literal["first", "same", "older", "newer", "different", "unknown", "unreachable", "gone"]
DRIFT = frozenset({"older", "newer", "different", "gone"})

_HUB_FILES = frozenset({".gitattributes", ".gitignore", "configuration.json", "license"})


@dataclass(frozen=True)
class ReleaseComparison:
    """One release. state: first (what the others of its format are held against), same, older, newer or
    different (by dates, where both hubs say them), unknown (nothing to compare by), unreachable, gone.
    differing: paths of the files that are not the same or not on both hubs. notes: on how it answered."""

    model: str
    release: Release
    state: State
    now: LockedRelease | None = None
    updated: datetime | None = None
    differing: tuple[str, ...] = ()
    error: ZooError | None = None
    notes: tuple[str, ...] = ()


def status(
    models: Iterable[Model], registry: Registry, lock: Lock, settings: Settings
) -> list[ReleaseComparison]:
    """Ask every hub that can be asked; model by model, format by format, in registry order."""
    resolved = resolve_all(models, registry, lock, settings)

    def kind(item: Resolved) -> tuple[str, str]:
        return item.model, item.release.format or ""

    groups = (list(group) for _, group in groupby(sorted(resolved, key=kind), kind))
    return [comparison for group in groups for comparison in _compare(group)]


def _compare(group: list[Resolved]) -> Iterator[ReleaseComparison]:
    first = next((item for item in group if item.now is not None), None)
    for item in group:
        compared = partial(ReleaseComparison, item.model, item.release)
        if item.now is None:
            refused = isinstance(item.error, NotFoundError | AccessError)
            gone = refused and not isinstance(item.error, CredentialError)
            yield compared("gone" if gone else "unreachable", error=item.error)
        elif item is first or first is None or first.now is None:
            yield compared("first", item.now, item.updated, notes=item.notes)
        else:
            differing = tuple(_differing(first.now, item.now))
            state = _state(first, item) if differing else _agreement(first.now, item.now)
            yield compared(state, item.now, item.updated, differing, notes=item.notes)


def _state(first: Resolved, item: Resolved) -> State:
    if first.updated is None or item.updated is None or first.updated == item.updated:
        return "different"
    return "older" if item.updated < first.updated else "newer"


def _agreement(one: LockedRelease, other: LockedRelease) -> State:
    """Names agree; whether any of the bytes were compared."""
    pairs = ((one.file(path), other.file(path)) for path in _paths(one))
    return "same" if any(a and b and a.compared(b) for a, b in pairs) else "unknown"


def _differing(one: LockedRelease, other: LockedRelease) -> Iterator[str]:
    for path in sorted({*_paths(one), *_paths(other)}):
        a, b = one.file(path), other.file(path)
        if a is None or b is None or a.conflict(b):
            yield path


def _paths(release: LockedRelease) -> Iterator[str]:
    for file in release.files:
        name = file.path.casefold()
        if name not in _HUB_FILES and not name.startswith("readme") and not name.startswith("."):
            yield file.path
