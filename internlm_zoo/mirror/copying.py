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
    with what lies below them. contents: where the mirror has some, by their digests; more as they come."""

    destination: Destination
    settings: Settings
    client: Client
    progress: Progress
    hash_cache: HashCache
    options: RunOptions
    policy: Policy
    ordered: bool
    folders: Folders
    contents: dict[str, list[tuple[Path, str]]] = field(default_factory=dict)

    def add_contents(self, indexed: IndexedRelease, without: Collection[str] = ()) -> None:
        """Make known what a release of the mirror has."""
        folder = self.destination.local(indexed.path)
        for file in indexed.files if folder else ():
            for digest in filter(None, file.content.digests):
                if folder and file.path not in without:
                    self.contents.setdefault(digest, []).append((folder / file.path, "the mirror"))


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


def fetch_files(item: PlannedRelease, source: SourceOptions, context: CopyContext) -> CopiedRelease:
    """Everything that the item's plan copies or updates, on the stage. Raises NoSpaceError, UsageError."""
    while item.problem is None and item.to_fetch:
        try:
            return _copied(item, fetch_release(*fetch_arguments(item, source, context)))
        except HUB_FAILURES as error:
            context.progress.note(f"{item.entry.path}: {error.what}; going on to the next hub")
            offer = ask(source, {**item.offer.failures, _snapshot(item).hub: error})
            item = replan(item, offer, error, context.policy)
    return CopiedRelease(item)


def _copied(item: PlannedRelease, done: DownloadResult) -> CopiedRelease:
    files = {file.path: file for file in done.files}
    return CopiedRelease(item, files, done.path, done.served, done.trust == "hub", done.notes)


def _snapshot(item: PlannedRelease) -> Snapshot:
    assert item.offer.snapshot is not None, "an item without a problem has an offer"
    return item.offer.snapshot


def fetch_arguments(
    item: PlannedRelease, source: SourceOptions, context: CopyContext
) -> tuple[Candidate, Sequence[Candidate], DownloadRequest, Session]:
    """What brings the files of the item: the arguments of `fetch_release` and `plan_release`."""
    snapshot, options, entry = _snapshot(item), context.options, item.entry
    own = next(it for it in entry.candidates if it.hub.name == snapshot.hub)
    request = DownloadRequest(
        model=entry.model,
        selection=Selection(tuple(action.path for action in item.to_fetch)),
        source=own.hub.name if context.ordered else options.source,
        local_dir=context.destination.stage(entry.path),
        max_workers=options.max_workers,
        force=True,
    )
    caches = caches_of(context.settings, [name.repo for name in entry.names])
    caches = replace(caches, folders=context.folders, contents=context.contents)
    adopter = Adopter(caches, context.hash_cache, context.progress)
    store = Store(context.settings.home)
    hubs, client, progress = source.hubs, context.client, context.progress
    session = Session(context.settings, store, hubs, client, progress, entry.candidates, adopter)
    others = [other for other in entry.candidates if other is not own]
    return _at(own, snapshot, Lock.load(context.settings)), others, request, session


def _at(candidate: Candidate, snapshot: Snapshot, lock: Lock) -> Candidate:
    """The candidate at the revision of the snapshot; held to the lock if that has the same one."""
    locked = lock.find(snapshot.hub, snapshot.repo, snapshot.revision)
    return replace(
        candidate,
        asked=snapshot.revision,
        locked=locked if locked and locked.revision == snapshot.revision else None,
    )
