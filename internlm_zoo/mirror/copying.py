"""Brings the files of one release to its stage, from the hub of the plan or else the next one that has it.

The download engine does the work: bytes are checked as they come, from several hubs where they list the same
digests, and a killed run is taken up where it stopped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from internlm_zoo.errors import AccessError, IntegrityError, NetworkError, NotFoundError, UnsupportedError
from internlm_zoo.mirror.destinations import Destination
from internlm_zoo.mirror.index import Held
from internlm_zoo.mirror.orders import Orders
from internlm_zoo.mirror.planning import replan
from internlm_zoo.mirror.survey import Ways, ask
from internlm_zoo.mirror.values import Action, Item, Rules
from internlm_zoo.progress import Progress
from internlm_zoo.registry.lock import Lock
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Snapshot
from internlm_zoo.store.adopt import Adopter
from internlm_zoo.store.caches import Folders, caches_of
from internlm_zoo.store.candidates import Candidate
from internlm_zoo.store.layout import Store
from internlm_zoo.store.ledger import Ledger
from internlm_zoo.store.record import read_record
from internlm_zoo.store.release import fetch_release
from internlm_zoo.store.selection import Selection
from internlm_zoo.store.values import DownloadedFile, Means, Request
from internlm_zoo.transfer.client import Client

# What leaves the next hub to be tried.
_HUB_FAILURES = (AccessError, IntegrityError, NetworkError, NotFoundError, UnsupportedError)


@dataclass(frozen=True)
class Kit:
    """What every copy works with. ordered: whether the user chose the order of hubs. folders: of the user's,
    with what lies below them. shelved: where the mirror has contents, by their digests; more as they come."""

    destination: Destination
    settings: Settings
    client: Client
    progress: Progress
    ledger: Ledger
    orders: Orders
    rules: Rules
    ordered: bool
    folders: Folders
    shelved: dict[str, list[tuple[Path, str]]] = field(default_factory=dict)

    def shelve(self, held: Held, without: Collection[str] = ()) -> None:
        """Make known what a release of the mirror has."""
        for file in (file for file in held.files if file.path not in without):
            if place := self.destination.local(held.path, file.path):
                for digest in filter(None, (file.sha256, file.git_sha1)):
                    self.shelved.setdefault(digest, []).append((place, "the mirror"))


@dataclass(frozen=True)
class Copied:
    """item: as it turned out; with a problem, nothing is to be taken in. files: on the stage, by path.
    served: bytes per hub. vouched: whether the digests are a hub's own."""

    item: Item
    files: Mapping[str, DownloadedFile] = field(default_factory=dict)
    stage: Path | None = None
    served: Mapping[str, int] = field(default_factory=dict)
    vouched: bool = True
    notes: tuple[str, ...] = ()


def bring(item: Item, ways: Ways, kit: Kit) -> Copied:
    """Everything that the item's plan copies or changes, on the stage. Raises NoSpaceError, UsageError."""
    while item.problem is None and item.to_fetch:
        snapshot = _snapshot(item)
        try:
            return _fetch(item, snapshot, ways, kit)
        except _HUB_FAILURES as error:
            kit.progress.note(f"{item.shelf.path}: {error.what}; going on to the next hub")
            offer = ask(ways, {**item.offer.failures, snapshot.hub: error})
            item = replan(item, offer, error, kit.rules)
    return Copied(item)


def _snapshot(item: Item) -> Snapshot:
    assert item.offer.snapshot is not None, "an item without a problem has an offer"
    return item.offer.snapshot


def _fetch(item: Item, snapshot: Snapshot, ways: Ways, kit: Kit) -> Copied:
    stage = kit.destination.stage(item.shelf.path)
    if _is_of_another_listing(stage, snapshot):
        kit.destination.clear(item.shelf.path)
    done = [fetch_release(*errand(item, paths, ways, kit)) for paths in _batches(item, snapshot, kit)]
    served: dict[str, int] = {}
    for hub, count in (pair for download in done for pair in download.served.items()):
        served[hub] = served.get(hub, 0) + count
    return Copied(
        item,
        files={file.path: file for download in done for file in download.files},
        stage=stage,
        served=served,
        vouched=all(download.trust == "hub" for download in done),
        notes=tuple(dict.fromkeys(note for download in done for note in download.notes)),
    )


def _batches(item: Item, snapshot: Snapshot, kit: Kit) -> Iterator[Sequence[Action]]:
    """All files at once where their digests tell a later run what it has. Where they do not, what is known of
    a file is what was recorded when its batch was complete."""
    actions = item.to_fetch
    size = len(actions) if _has_digests(snapshot) else kit.orders.max_workers
    return (actions[start : start + size] for start in range(0, len(actions), size))


def errand(
    item: Item, actions: Sequence[Action], ways: Ways, kit: Kit
) -> tuple[Candidate, Sequence[Candidate], Request, Means]:
    """What brings the files of the actions: the arguments of `fetch_release` and `plan_release`."""
    snapshot, orders, shelf = _snapshot(item), kit.orders, item.shelf
    own = next(it for it in shelf.candidates if it.hub.name == snapshot.hub)
    request = Request(
        model=shelf.model,
        selection=Selection(tuple(action.path for action in actions)),
        source=own.hub.name if kit.ordered else orders.source,
        local_dir=kit.destination.stage(shelf.path),
        max_workers=orders.max_workers,
        force=True,
    )
    caches = caches_of(kit.settings, [name.repo for name in shelf.names])
    caches = replace(caches, folders=kit.folders, contents=kit.shelved)
    adopter = Adopter(caches, kit.ledger, kit.progress)
    store = Store(kit.settings.home)
    means = Means(kit.settings, store, ways.hubs, kit.client, kit.progress, shelf.candidates, adopter)
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


def _is_of_another_listing(stage: Path, snapshot: Snapshot) -> bool:
    """Whether the files on the stage cannot be told from those that are wanted now."""
    record = None if _has_digests(snapshot) else read_record(stage)
    return record is not None and record.release.revision != snapshot.revision


def _has_digests(snapshot: Snapshot) -> bool:
    return all(file.sha256 or (file.git_sha1 and file.size is not None) for file in snapshot.files)
