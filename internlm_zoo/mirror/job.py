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
from internlm_zoo.mirror.listings import SourceOptions, sources_of, survey
from internlm_zoo.mirror.local import look_nearby
from internlm_zoo.mirror.options import RunOptions
from internlm_zoo.mirror.planning import make_plan
from internlm_zoo.mirror.reading import read_mirror_file
from internlm_zoo.mirror.report import PlaceReport, item_notes
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
    """The mirror, and the hubs, as they are now. sources: by path of the release."""

    plan: MirrorPlan
    index: Index
    sources: Mapping[str, SourceOptions]


@dataclass(frozen=True)
class MirrorJob:
    """A mirror file, understood."""

    mirror: MirrorFile
    wanted: MirrorEntries
    destination: Destination
    settings: Settings
    options: RunOptions
    limit: Limit

    @property
    def policy(self) -> Policy:
        """A run that is about some files alone removes none that it was not asked about."""
        narrow = self.options.choice
        return Policy(self.mirror.prune and narrow == Selection(), self.mirror.choice, narrow)

    @contextmanager
    def context(self, progress: Progress, *, writes: bool) -> Iterator[CopyContext]:
        """What brings files, or looks where they are. writes: whether digests of what is found here may be
        remembered."""
        settings, options = self.settings, self.options
        rate, patience = rate_of(options.max_rate), RetryPolicy.of(settings)
        with closing(Client(settings.environ, patience, options.max_workers, rate, progress.note)) as client:
            yield CopyContext(
                destination=self.destination,
                settings=settings,
                client=client,
                progress=progress,
                hash_cache=HashCache(settings.home, keep=writes),
                options=options,
                policy=self.policy,
                ordered=bool(self.mirror.hubs or settings.sources) or options.source != AUTO,
                folders=folders_of(options.adopt),
            )

    def place(self) -> PlaceReport:
        """Of the destination, as it is now."""
        unfinished = self.destination.unfinished([entry.path for entry in self.wanted.entries])
        return PlaceReport(Path(self.mirror.destination), unfinished, self.destination.warnings())

    def view(self, context: CopyContext) -> MirrorState:
        """Raises NotFoundError if nothing has a file that the options name."""
        progress = context.progress
        for warning in self.destination.warnings():
            progress.note(warning)
        index = self.destination.index()
        sources = sources_of(self.wanted.entries, index, self.settings)
        offers = survey(sources)
        _check_named(self.options.choice, offers.values())
        paths = dict.fromkeys((*sources, *(indexed.path for indexed in index.releases)))
        on_disk = {path: self._on_disk(path, index.find(path), offers.get(path), progress) for path in paths}
        found = make_plan(self.wanted, offers, index, on_disk, self.policy)
        for indexed in index.releases if any(item.to_fetch for item in found.items) else ():
            context.add_contents(
                indexed, without=on_disk[indexed.path].damaged | on_disk[indexed.path].missing
            )
        found = replace(found, items=tuple(look_nearby(found.items, sources, context)))
        for item in found.items:
            for note in item_notes(item):
                progress.note(f"{item.entry.path}: {note}")
        return MirrorState(found, index, sources)

    def _on_disk(
        self, path: str, indexed: IndexedRelease | None, offer: HubOffer | None, progress: Progress
    ) -> LocalState:
        """offer: None for a release that is not asked for; of that nothing is hashed."""
        files = indexed.files if indexed and offer else ()
        on_disk = self.destination.examine(path, files, deep=self.options.deep, progress=progress)
        known, snapshot = {file.path for file in files} - on_disk.damaged, offer.snapshot if offer else None
        unknown = [
            it
            for it in (snapshot.files if snapshot else ())
            if it.identified and it.path in on_disk.files and it.path not in known
        ]
        return replace(on_disk, right=self.destination.recognise(path, unknown, progress=progress))


def open_job(file: Path, settings: Settings, options: RunOptions) -> MirrorJob:
    """Raises what is wrong with the file, UsageError for options that make no sense."""
    registry = load_registry(settings)
    mirror, found = read_mirror_file(file, registry, settings, options.source)
    destination = open_destination(mirror.destination)
    limit = mirror.max_delete if options.max_delete is None else _limit(options.max_delete)
    return MirrorJob(mirror, found, destination, settings, options, limit)


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
