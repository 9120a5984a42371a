"""Asks the hubs what they have for each entry: the first that answers is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

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
class HubListings:
    """What hubs answer in one run. hubs: by path of the entry; each is asked once about it, and then
    remembered. known: what is locked, or held, at which revision. silent: hubs that answered nobody, whatever
    the entry."""

    hubs: Mapping[str, Hubs]
    known: Lock
    silent: dict[str, NetworkError] = field(default_factory=dict)


def listings_of(entries: Sequence[MirrorEntry], index: Index, settings: Settings) -> HubListings:
    """Nothing is asked yet."""
    known = Lock().updated(map(_as_locked, index.releases)).updated(Lock.load(settings).releases)
    return HubListings({entry.path: Hubs(settings) for entry in entries}, known)


def survey(listings: HubListings, entries: Sequence[MirrorEntry]) -> dict[str, HubOffer]:
    """Offers by path; several entries are asked for at a time."""
    offers = in_threads(partial(ask, listings), entries, _WORKERS)
    return {entry.path: offer for entry, offer in zip(entries, offers, strict=True)}


def ask(
    listings: HubListings, entry: MirrorEntry, failures: Mapping[str, ZooError] | None = None
) -> HubOffer:
    """What the first hub has that answers and is not among the failures."""
    failed = dict(failures or {})
    for candidate in entry.candidates:
        hub = candidate.hub.name
        if hub in failed:
            continue
        try:
            return HubOffer(_snapshot(listings, entry, candidate), failed)
        except (NoSpaceError, VariableError):
            raise
        except ZooError as error:
            failed[hub] = error
            if isinstance(error, NetworkError) and not isinstance(error, ListingError):
                listings.silent[hub] = error
    return HubOffer(None, failed)


def _snapshot(listings: HubListings, entry: MirrorEntry, candidate: Candidate) -> Snapshot:
    if candidate.hub.name in listings.silent:
        raise listings.silent[candidate.hub.name]
    snapshot = listings.hubs[entry.path].snapshot(candidate)
    _check_known(snapshot, listings.known)
    return replace(snapshot, files=tuple(file for file in snapshot.files if not is_ours(file.path)))


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
