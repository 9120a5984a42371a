"""Brings the files of one release to its stage, from the hub of the plan or else the next one that has it.

The download engine does the work: bytes are checked as they come, from several hubs where they list the same
digests, and a killed run is taken up where it stopped. What is on this machine already no hub has to send.
Looked at, in this order: what an earlier run left, other tools' caches and folders of the user's, other
releases of the mirror, the store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from internlm_zoo.caches.adopt import Adopter
from internlm_zoo.caches.find import Folders, caches_of, folders_of
from internlm_zoo.downloads.candidates import Candidate
from internlm_zoo.downloads.plan import PlannedFile
from internlm_zoo.downloads.release import fetch_release, plan_release
from internlm_zoo.downloads.request import DownloadRequest
from internlm_zoo.downloads.result import DownloadedFile, DownloadResult
from internlm_zoo.downloads.selection import Selection
from internlm_zoo.downloads.session import Session
from internlm_zoo.errors import HUB_FAILURES
from internlm_zoo.files import File
from internlm_zoo.mirror.job import MirrorJob
from internlm_zoo.mirror.listings import HubListings, ask, listings_of
from internlm_zoo.mirror.planning import replan
from internlm_zoo.mirror.values import Action, PlannedRelease
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.progress import Progress
from internlm_zoo.registry.lock import Lock
from internlm_zoo.sources.base import Snapshot
from internlm_zoo.store.hash_cache import HashCache
from internlm_zoo.store.layout import Store
from internlm_zoo.store.mirror_index import Index, IndexedRelease
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.rate import rate_of


@dataclass(frozen=True)
class CopyContext:
    """What every copy works with. index: as it was found. folders: of the user's, with what lies below them.
    contents: where the mirror has some, by their digests; more as they come."""

    job: MirrorJob
    index: Index
    listings: HubListings
    client: Client
    progress: Progress
    hash_cache: HashCache
    folders: Folders
    contents: dict[str, list[tuple[Path, str]]] = field(default_factory=dict)

    def add_contents(self, indexed: IndexedRelease, without: Collection[str] = ()) -> None:
        """Make known what a release of the mirror has."""
        folder = self.job.destination.local(indexed.path)
        for file in indexed.files if folder else ():
            for digest in filter(None, file.content.digests):
                if folder and file.path not in without:
                    self.contents.setdefault(digest, []).append((folder / file.path, "the mirror"))


@contextmanager
def open_context(job: MirrorJob, progress: Progress | None, *, writes: bool) -> Iterator[CopyContext]:
    """writes: whether digests of what is found here may be remembered. Raises what keeps the place from being
    a mirror."""
    settings, options, progress = job.settings, job.options, progress or Progress()
    for warning in job.destination.warnings():
        progress.note(warning)
    index = job.destination.index()
    listings = listings_of(job.wanted.entries, index, settings)
    rate, policy = rate_of(options.max_rate), RetryPolicy.of(settings)
    hash_cache, folders = HashCache(settings.home, keep=writes), folders_of(options.adopt)
    with closing(Client(settings.environ, policy, options.max_workers, rate, progress.note)) as client:
        yield CopyContext(job, index, listings, client, progress, hash_cache, folders)


@dataclass(frozen=True)
class CopiedRelease:
    """item: as it turned out; with a problem, nothing is to be taken in. files: on the stage, by path.
    served: bytes per hub. trust: see DownloadResult."""

    item: PlannedRelease
    files: Mapping[str, DownloadedFile] = field(default_factory=dict)
    stage: Path | None = None
    served: Mapping[str, int] = field(default_factory=dict)
    trust: str = "hub"
    notes: tuple[str, ...] = ()


def fetch_files(item: PlannedRelease, context: CopyContext) -> CopiedRelease:
    """Everything that the item's plan copies or updates, on the stage. Raises NoSpaceError, UsageError."""
    while item.problem is None and item.to_fetch:
        try:
            return _copied(item, fetch_release(*_fetch_arguments(item, context)))
        except HUB_FAILURES as error:
            context.progress.note(f"{item.entry.path}: {error.what}; going on to the next hub")
            failures = {**item.offer.failures, _snapshot(item).hub: error}
            item = replan(item, ask(context.listings, item.entry, failures), error, context.job.policy)
    return CopiedRelease(item)


def with_local_copies(items: Iterable[PlannedRelease], context: CopyContext) -> Iterator[PlannedRelease]:
    """The items, with what of each file is to be fetched and from where the rest is taken. What one release
    gets, the next can take."""
    coming: dict[str, str] = {}
    for item in items:
        if item.problem is None and item.to_fetch:
            item = _with_local_copies(item, context, coming)
            coming.update(_digests(item))
        yield item


def _copied(item: PlannedRelease, done: DownloadResult) -> CopiedRelease:
    files = {file.path: file for file in done.files}
    return CopiedRelease(item, files, done.path, done.served, done.trust, done.notes)


def _snapshot(item: PlannedRelease) -> Snapshot:
    assert item.offer.snapshot is not None, "an item without a problem has an offer"
    return item.offer.snapshot


def _fetch_arguments(
    item: PlannedRelease, context: CopyContext
) -> tuple[Candidate, Sequence[Candidate], DownloadRequest, Session]:
    """What brings the files of the item: the arguments of `fetch_release` and `plan_release`."""
    snapshot, job, entry = _snapshot(item), context.job, item.entry
    own = next(it for it in entry.candidates if it.hub.name == snapshot.hub)
    request = DownloadRequest(
        model=entry.model,
        selection=Selection(tuple(action.path for action in item.to_fetch)),
        source=own.hub.name if job.is_ordered else job.options.source,
        local_dir=job.destination.stage(entry.path),
        max_workers=job.options.max_workers,
        force=True,
    )
    caches = caches_of(job.settings, [name.repo for name in entry.names])
    caches = replace(caches, folders=context.folders, contents=context.contents)
    adopter = Adopter(caches, context.hash_cache, context.progress)
    store, hubs = Store(job.settings.home), context.listings.hubs[entry.path]
    session = Session(job.settings, store, hubs, context.client, context.progress, entry.candidates, adopter)
    others = [other for other in entry.candidates if other is not own]
    return _at(own, snapshot, Lock.load(job.settings)), others, request, session


def _at(candidate: Candidate, snapshot: Snapshot, lock: Lock) -> Candidate:
    """The candidate at the revision of the snapshot; held to the lock if that has the same one."""
    locked = lock.find(snapshot.hub, snapshot.repo, snapshot.revision)
    return replace(
        candidate,
        asked=snapshot.revision,
        locked=locked if locked and locked.revision == snapshot.revision else None,
    )


def _with_local_copies(
    item: PlannedRelease, context: CopyContext, coming: Mapping[str, str]
) -> PlannedRelease:
    planned = {file.path: file for file in plan_release(*_fetch_arguments(item, context)).files}
    listed = {file.path: file for file in _snapshot(item).files}
    actions = {action.path: action for action in item.actions}
    known = {path: _known(actions[path], planned[path], listed[path], coming) for path in planned}
    return replace(item, actions=tuple({**actions, **known}.values()))


def _known(action: Action, planned: PlannedFile, listed: File, coming: Mapping[str, str]) -> Action:
    if planned.source is None:
        return replace(action, fetch=0, taken_from=str(planned.taken_from) if planned.taken_from else None)
    for digest in filter(None, listed.digests):
        if digest in coming:
            return replace(action, fetch=0, taken_from=coming[digest])
    return replace(action, fetch=None if action.size is None else planned.to_fetch)


def _digests(item: PlannedRelease) -> Iterator[tuple[str, str]]:
    """Of what the item gets, with a place to take it from."""
    fetched = {action.path for action in item.to_fetch}
    for file in _snapshot(item).files:
        for digest in filter(None, file.digests if file.path in fetched else ()):
            yield digest, f"{item.entry.path}/{file.path}"
