"""What `lock` does: ask every hub what its releases are now, and say how that differs from what is recorded.

A digest is what a hub publishes or what was seen as the bytes came; none is made up. Hugging Face gives only
the git digest of small files, OpenXLab nothing at all: their sha256 is open until a download has found it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from converters.system.threads import in_threads
from internlm_zoo.errors import ListingError, NetworkError, VariableError, ZooError
from internlm_zoo.files import File
from internlm_zoo.registry import Model, Registry, Release
from internlm_zoo.registry.lock import Lock, LockedRelease
from internlm_zoo.registry.release import Format
from internlm_zoo.settings import Settings
from internlm_zoo.sources import resolve_release
from internlm_zoo.sources.base import Snapshot

_WORKERS = 8


@dataclass(frozen=True)
class Resolved:
    """One release as its hub has it now. before: what is recorded. error: why there is no `now`. updated:
    when it last changed, where the hub says so. notes: on how it answered."""

    model: str
    release: Release
    before: LockedRelease | None
    now: LockedRelease | None
    error: ZooError | None = None
    updated: datetime | None = None
    notes: tuple[str, ...] = ()

    @property
    def state(self) -> Literal["new", "same", "changed", "unreachable"]:
        if self.now is None:
            return "unreachable"
        if self.before is None:
            return "new"
        return "changed" if changes(self.before, self.now) else "same"


@dataclass(frozen=True)
class Change:
    """One way in which a release is not what it was. path: None for the release itself."""

    path: str | None
    kind: Literal["added", "removed", "changed"]
    before: str
    now: str


def resolve_all(
    models: Iterable[Model], registry: Registry, lock: Lock, settings: Settings
) -> list[Resolved]:
    """Ask for every release that can be downloaded from a hub, several at once; in registry order.

    A hub that does not answer is not asked again.
    """
    client = _Resolver(registry, lock, settings)
    releases = [
        (model.name, release)
        for model in models
        for release in model.releases
        if registry.hub(release.hub).protocol is not None
    ]
    return in_threads(lambda item: client.ask(*item), releases, _WORKERS)


def locked(snapshot: Snapshot, format: Format | None) -> LockedRelease:
    """A listing as the lock records it."""
    verified = all(any(file.digests) for file in snapshot.files)
    return LockedRelease(
        hub=snapshot.hub,
        repo=snapshot.repo,
        revision=snapshot.revision,
        requested=snapshot.requested,
        format=format,
        trust="hub" if verified else "first-use",
        files=tuple(sorted(snapshot.files, key=lambda file: file.path)),
    )


def completed(now: LockedRelease, before: LockedRelease | None) -> LockedRelease:
    """`now` with what a download of the same bytes has found and the hub does not list: sizes and digests."""
    if before is None:
        return now
    same_listing = before.revision == now.revision
    files = tuple(_completed(file, before.file(file.path), same_listing) for file in now.files)
    return replace(now, files=files)


def changes(before: LockedRelease, now: LockedRelease) -> list[Change]:
    """What differs: the release first, then its files by path. Facts that one side lacks do not count."""
    found = []
    for name in ("repo", "revision"):
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            found.append(Change(None, "changed", f"{name} {old}", f"{name} {new}"))
    for path in sorted({file.path for file in (*before.files, *now.files)}):
        found += _file_changes(path, before.file(path), now.file(path))
    return found


class _Resolver:
    """Asks hubs from several threads, and remembers which of them did not answer."""

    def __init__(self, registry: Registry, lock: Lock, settings: Settings) -> None:
        self._registry, self._lock, self._settings = registry, lock, settings
        self._unreachable: dict[str, NetworkError] = {}

    def ask(self, model: str, release: Release) -> Resolved:
        recorded = (self._lock.find(release.hub, name, release.revision) for name in release.names)
        before = next(filter(None, recorded), None)
        try:
            snapshot = self._snapshot(release)
        except VariableError:
            raise
        except ZooError as error:
            return Resolved(model, release, before, None, error)
        now = completed(locked(snapshot, release.format), before)
        return Resolved(model, release, before, now, updated=snapshot.updated, notes=snapshot.notes)

    def _snapshot(self, release: Release) -> Snapshot:
        if error := self._unreachable.get(release.hub):
            raise error
        try:
            return resolve_release(release, self._registry.hub(release.hub), self._settings)
        except ListingError:
            raise
        except NetworkError as error:
            self._unreachable[release.hub] = error
            raise


def _completed(file: File, known: File | None, same_listing: bool) -> File:
    if known is None or known.conflict(file):
        return file
    are_same = same_listing or known.digests.agree(file.digests)
    return file.completed_by(known) if are_same else file


def _file_changes(path: str, before: File | None, now: File | None) -> Iterator[Change]:
    if before is None:
        yield Change(path, "added", "", "")
    elif now is None:
        yield Change(path, "removed", "", "")
    elif fact := before.conflict(now):
        yield Change(path, "changed", f"{fact.name} {fact.expected}", f"{fact.name} {fact.found}")
