"""Asks the hubs what they have for each entry: the first that answers is enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from converters.system.threads import in_threads
from internlm_zoo.downloads.candidates import Candidate
from internlm_zoo.downloads.listings import Hubs
from internlm_zoo.errors import (
    IntegrityError,
    ListingError,
    NetworkError,
    NoSpaceError,
    VariableError,
    ZooError,
)
from internlm_zoo.mirror.entries import MirrorEntry
from internlm_zoo.mirror.values import HubOffer
from internlm_zoo.registry.lock import Lock, LockedRelease
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Snapshot
from internlm_zoo.store.layout import is_ours
from internlm_zoo.store.mirror_index import Index, IndexedRelease

_WORKERS = 8


@dataclass(frozen=True)
class SourceOptions:
    """How the files of one entry can be had. hubs: each is asked once per run, and then remembered. known:
    what is locked, or held, at which revision. silent: hubs that answered nobody, whatever the entry."""

    entry: MirrorEntry
    hubs: Hubs
    known: Lock
    silent: dict[str, NetworkError]


def sources_of(entries: Iterable[MirrorEntry], index: Index, settings: Settings) -> dict[str, SourceOptions]:
    """By path. Nothing is asked yet."""
    silent: dict[str, NetworkError] = {}
    known = Lock().updated(map(_as_locked, index.releases)).updated(Lock.load(settings).releases)
    return {entry.path: SourceOptions(entry, Hubs(settings), known, silent) for entry in entries}


def survey(sources: Mapping[str, SourceOptions]) -> dict[str, HubOffer]:
    """Offers by path; several entries are asked for at a time."""
    return dict(zip(sources, in_threads(ask, list(sources.values()), _WORKERS), strict=True))


def ask(source: SourceOptions, failures: Mapping[str, ZooError] | None = None) -> HubOffer:
    """What the first hub has that answers and is not among the failures."""
    failed = dict(failures or {})
    for candidate in source.entry.candidates:
        hub = candidate.hub.name
        if hub in failed:
            continue
        try:
            return _offer(source, candidate, failed)
        except (NoSpaceError, VariableError):
            raise
        except ZooError as error:
            failed[hub] = error
            if isinstance(error, NetworkError) and not isinstance(error, ListingError):
                source.silent[hub] = error
    return HubOffer(None, failed)


def _offer(source: SourceOptions, candidate: Candidate, failed: Mapping[str, ZooError]) -> HubOffer:
    if candidate.hub.name in source.silent:
        raise source.silent[candidate.hub.name]
    snapshot = source.hubs.snapshot(candidate)
    _check_known(snapshot, source.known)
    files = tuple(file for file in snapshot.files if not is_ours(file.path))
    return HubOffer(replace(snapshot, files=files), dict(failed))


def _check_known(snapshot: Snapshot, known: Lock) -> None:
    """A revision is what it was. Raises IntegrityError where the hub now says otherwise."""
    before = known.find(snapshot.hub, snapshot.repo, snapshot.revision)
    if before is None or before.revision != snapshot.revision:
        return
    for file in snapshot.files:
        ours = before.file(file.path)
        if ours is not None and (what := ours.conflict(file)):
            raise IntegrityError(
                f"{snapshot.hub} has another {file.path} under the same revision ({what})",
                before.id,
                "if that was done on purpose, record it anew: internlm-zoo lock",
            )


def _as_locked(indexed: IndexedRelease) -> LockedRelease:
    files = tuple(file.content for file in indexed.files)
    source = indexed.source
    return LockedRelease(
        source.hub, source.repo, source.revision, source.revision, indexed.format, indexed.trust, files
    )
