"""A mirror file, understood, and the look at the mirror and at the hubs that every verb begins with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from internlm_zoo.caches.find import folders_of
from internlm_zoo.downloads.candidates import AUTO
from internlm_zoo.downloads.selection import Selection, hint
from internlm_zoo.errors import NotFoundError, UsageError
from internlm_zoo.mirror.config import MirrorFile
from internlm_zoo.mirror.copying import CopyContext
from internlm_zoo.mirror.destinations import Destination, open_destination
from internlm_zoo.mirror.entries import MirrorEntries
from internlm_zoo.mirror.limit import Limit
from internlm_zoo.mirror.listings import SourceOptions, survey, ways_to
from internlm_zoo.mirror.local import look_nearby
from internlm_zoo.mirror.options import RunOptions
from internlm_zoo.mirror.planning import make_plan
from internlm_zoo.mirror.reading import read_mirror_file
from internlm_zoo.mirror.report import item_notes
from internlm_zoo.mirror.values import HubOffer, LocalState, MirrorPlan, Policy
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.progress import Progress
from internlm_zoo.registry import load_registry
from internlm_zoo.settings import Settings
from internlm_zoo.store.hash_cache import HashCache
from internlm_zoo.store.mirror_index import Index, IndexedRelease
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.rate import rate_of

_LOOK = "`mirror plan` lists what there is"


@dataclass(frozen=True)
class MirrorState:
    """The mirror, and the hubs, as they are now. ways: by path of the release."""

    plan: MirrorPlan
    index: Index
    ways: Mapping[str, SourceOptions]


@dataclass(frozen=True)
class MirrorJob:
    """A mirror file, understood."""

    mirror: MirrorFile
    wanted: MirrorEntries
    destination: Destination
    settings: Settings
    orders: RunOptions
    limit: Limit

    @property
    def rules(self) -> Policy:
        """A run that is about some files alone removes none that it was not asked about."""
        narrow = self.orders.choice
        return Policy(self.mirror.prune and narrow == Selection(), self.mirror.choice, narrow)

    @contextmanager
    def kit(self, progress: Progress, *, writes: bool) -> Iterator[CopyContext]:
        """What brings files, or looks where they are. writes: whether digests of what is found here may be
        remembered."""
        settings, orders = self.settings, self.orders
        rate, patience = rate_of(orders.max_rate), RetryPolicy.of(settings)
        with closing(Client(settings.environ, patience, orders.max_workers, rate, progress.note)) as client:
            yield CopyContext(
                destination=self.destination,
                settings=settings,
                client=client,
                progress=progress,
                hash_cache=HashCache(settings.home, keep=writes),
                orders=orders,
                rules=self.rules,
                ordered=bool(self.mirror.hubs or settings.sources) or orders.source != AUTO,
                folders=folders_of(orders.adopt),
            )

    def view(self, kit: CopyContext) -> MirrorState:
        """Raises NotFoundError if nothing has a file that the orders name."""
        progress = kit.progress
        for warning in self.destination.warnings():
            progress.note(warning)
        index = self.destination.index()
        ways = ways_to(self.wanted.shelves, index, self.settings)
        offers = survey(ways)
        _check_named(self.orders.choice, offers.values())
        paths = dict.fromkeys((*ways, *(held.path for held in index.releases)))
        seen = {path: self._seen(path, index.find(path), offers.get(path), progress) for path in paths}
        found = make_plan(self.wanted, offers, index, seen, self.rules)
        for held in index.releases if any(item.to_fetch for item in found.items) else ():
            kit.shelve(held, without=seen[held.path].damaged | seen[held.path].missing)
        found = replace(found, items=tuple(look_nearby(found.items, ways, kit)))
        for item in found.items:
            for note in item_notes(item):
                progress.note(f"{item.shelf.path}: {note}")
        return MirrorState(found, index, ways)

    def _seen(
        self, path: str, held: IndexedRelease | None, offer: HubOffer | None, progress: Progress
    ) -> LocalState:
        """offer: None for a release that is not asked for; of that nothing is hashed."""
        files = held.files if held and offer else ()
        seen = self.destination.examine(path, files, deep=self.orders.deep, progress=progress)
        known, snapshot = {file.path for file in files} - seen.damaged, offer.snapshot if offer else None
        unknown = [
            it
            for it in (snapshot.files if snapshot else ())
            if it.identified and it.path in seen.files and it.path not in known
        ]
        return replace(seen, right=self.destination.recognise(path, unknown, progress=progress))


def open_job(file: Path, settings: Settings, orders: RunOptions) -> MirrorJob:
    """Raises what is wrong with the file, UsageError for orders that make no sense."""
    registry = load_registry(settings)
    mirror, found = read_mirror_file(file, registry, settings, orders.source)
    destination = open_destination(mirror.destination)
    limit = mirror.max_delete if orders.max_delete is None else _limit(orders.max_delete)
    return MirrorJob(mirror, found, destination, settings, orders, limit)


def _check_named(choice: Selection, offers: Iterable[HubOffer]) -> None:
    """A release need not have a file that is named, but one of them must."""
    there = {file.path for offer in offers if offer.snapshot for file in offer.snapshot.files}
    for path in choice.files if there else ():
        if path not in there:
            raise NotFoundError(f"no release has a file {path}", fix=hint(path, sorted(there)) or _LOOK)
    if there and not any(map(choice.wants, there)):
        raise NotFoundError("no file is chosen", fix=_LOOK)


def _limit(text: str | int) -> Limit:
    try:
        return Limit.parse(text)
    except ValueError as error:
        raise UsageError(str(error), "`max_delete`") from error
