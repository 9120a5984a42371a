"""Brings the files of one release to its stage, from the hub of the plan or else the next one that has it.

The download engine does the work: bytes are checked as they come, from several hubs where they list the same
digests, and a killed run is taken up where it stopped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from internlm_zoo.caches.adopt import Adopter
from internlm_zoo.caches.find import Folders, caches_of
from internlm_zoo.downloads.candidates import Candidate
from internlm_zoo.downloads.release import fetch_release
from internlm_zoo.downloads.request import DownloadRequest
from internlm_zoo.downloads.result import DownloadedFile, DownloadResult
from internlm_zoo.downloads.run import HUB_FAILURES
from internlm_zoo.downloads.selection import Selection
from internlm_zoo.downloads.session import Session
from internlm_zoo.mirror.destinations import Destination
from internlm_zoo.mirror.listings import SourceOptions, ask
from internlm_zoo.mirror.options import RunOptions
from internlm_zoo.mirror.planning import replan
from internlm_zoo.mirror.values import PlannedRelease, Policy
from internlm_zoo.progress import Progress
from internlm_zoo.registry.lock import Lock
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Snapshot
from internlm_zoo.store.hash_cache import HashCache
from internlm_zoo.store.layout import Store
from internlm_zoo.store.mirror_index import IndexedRelease
from internlm_zoo.transfer.client import Client


@dataclass(frozen=True)
class CopyContext:
    """What every copy works with. ordered: whether the user chose the order of hubs. folders: of the user's,
    with what lies below them. shelved: where the mirror has contents, by their digests; more as they come."""

    destination: Destination
    settings: Settings
    client: Client
    progress: Progress
    hash_cache: HashCache
    orders: RunOptions
    rules: Policy
    ordered: bool
    folders: Folders
    shelved: dict[str, list[tuple[Path, str]]] = field(default_factory=dict)

    def shelve(self, held: IndexedRelease, without: Collection[str] = ()) -> None:
        """Make known what a release of the mirror has."""
        folder = self.destination.local(held.path)
        for file in held.files if folder else ():
            for digest in filter(None, file.content.digests):
                if folder and file.path not in without:
                    self.shelved.setdefault(digest, []).append((folder / file.path, "the mirror"))


@dataclass(frozen=True)
class CopiedRelease:
    """item: as it turned out; with a problem, nothing is to be taken in. files: on the stage, by path.
    served: bytes per hub. vouched: whether the digests are a hub's own."""

    item: PlannedRelease
    files: Mapping[str, DownloadedFile] = field(default_factory=dict)
    stage: Path | None = None
    served: Mapping[str, int] = field(default_factory=dict)
    vouched: bool = True
    notes: tuple[str, ...] = ()


def bring(item: PlannedRelease, ways: SourceOptions, kit: CopyContext) -> CopiedRelease:
    """Everything that the item's plan copies or updates, on the stage. Raises NoSpaceError, UsageError."""
    while item.problem is None and item.to_fetch:
        try:
            return _copied(item, fetch_release(*errand(item, ways, kit)))
        except HUB_FAILURES as error:
            kit.progress.note(f"{item.shelf.path}: {error.what}; going on to the next hub")
            offer = ask(ways, {**item.offer.failures, _snapshot(item).hub: error})
            item = replan(item, offer, error, kit.rules)
    return CopiedRelease(item)


def _copied(item: PlannedRelease, done: DownloadResult) -> CopiedRelease:
    files = {file.path: file for file in done.files}
    return CopiedRelease(item, files, done.path, done.served, done.trust == "hub", done.notes)


def _snapshot(item: PlannedRelease) -> Snapshot:
    assert item.offer.snapshot is not None, "an item without a problem has an offer"
    return item.offer.snapshot


def errand(
    item: PlannedRelease, ways: SourceOptions, kit: CopyContext
) -> tuple[Candidate, Sequence[Candidate], DownloadRequest, Session]:
    """What brings the files of the item: the arguments of `fetch_release` and `plan_release`."""
    snapshot, orders, shelf = _snapshot(item), kit.orders, item.shelf
    own = next(it for it in shelf.candidates if it.hub.name == snapshot.hub)
    request = DownloadRequest(
        model=shelf.model,
        selection=Selection(tuple(action.path for action in item.to_fetch)),
        source=own.hub.name if kit.ordered else orders.source,
        local_dir=kit.destination.stage(shelf.path),
        max_workers=orders.max_workers,
        force=True,
    )
    caches = caches_of(kit.settings, [name.repo for name in shelf.names])
    caches = replace(caches, folders=kit.folders, contents=kit.shelved)
    adopter = Adopter(caches, kit.hash_cache, kit.progress)
    store = Store(kit.settings.home)
    means = Session(kit.settings, store, ways.hubs, kit.client, kit.progress, shelf.candidates, adopter)
    others = [other for other in shelf.candidates if other is not own]
    return _at(own, snapshot, Lock.load(kit.settings)), others, request, means


def _at(candidate: Candidate, snapshot: Snapshot, lock: Lock) -> Candidate:
    """The candidate at the revision of the snapshot; held to the lock if that has the same one."""
    locked = lock.find(snapshot.hub, snapshot.repo, snapshot.revision)
    return replace(
        candidate,
        asked=snapshot.revision,
        locked=locked if locked and locked.revision == snapshot.revision else None,
    )
