"""A mirror file, understood, and the look at the mirror and at the hubs that every verb begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from internlm_zoo.errors import UsageError
from internlm_zoo.mirror.config import MirrorFile, read_mirror_file
from internlm_zoo.mirror.destinations import Destination, open_destination
from internlm_zoo.mirror.index import Held, Index
from internlm_zoo.mirror.limit import Limit
from internlm_zoo.mirror.planning import make_plan
from internlm_zoo.mirror.report import item_notes
from internlm_zoo.mirror.survey import Ways, survey, ways_to
from internlm_zoo.mirror.values import Offer, Plan, Seen
from internlm_zoo.mirror.wanted import Wanted, wanted
from internlm_zoo.progress import Progress
from internlm_zoo.registry import Registry, load_registry
from internlm_zoo.registry.lock import LockedFile
from internlm_zoo.settings import Settings


@dataclass(frozen=True)
class View:
    """The mirror, and the hubs, as they are now. ways: by path of the release."""

    plan: Plan
    index: Index
    ways: Mapping[str, Ways]


@dataclass(frozen=True)
class Job:
    """A mirror file, understood."""

    mirror: MirrorFile
    wanted: Wanted
    destination: Destination
    registry: Registry
    settings: Settings
    limit: Limit

    def view(self, deep: bool, progress: Progress) -> View:
        for warning in self.destination.warnings():
            progress.note(warning)
        index = self.destination.index()
        ways = ways_to(self.wanted.shelves, index, self.registry, self.settings)
        offers = survey(ways)
        paths = dict.fromkeys((*ways, *(held.path for held in index.releases)))
        seen = {path: self._seen(path, index.find(path), offers.get(path), deep, progress) for path in paths}
        found = make_plan(self.wanted, offers, index, seen, self.mirror.prune)
        for item in found.items:
            for note in item_notes(item):
                progress.note(f"{item.shelf.path}: {note}")
        return View(found, index, ways)

    def _seen(
        self, path: str, held: Held | None, offer: Offer | None, deep: bool, progress: Progress
    ) -> Seen:
        """offer: None for a release that is not asked for; of that nothing is hashed."""
        files = held.files if held and offer else ()
        seen = self.destination.examine(path, files, deep=deep, progress=progress)
        known, snapshot = {file.path for file in files}, offer.snapshot if offer else None
        unknown = [
            LockedFile(it.path, it.size, it.sha256, it.git_sha1)
            for it in (snapshot.files if snapshot else ())
            if it.path in seen.files and it.path not in known
        ]
        unknown = [file for file in unknown if file.has_digest]
        return replace(seen, right=self.destination.recognise(path, unknown, progress=progress))


def open_job(file: Path, settings: Settings, max_delete: str | int | None = None) -> Job:
    """max_delete: instead of the mirror file's. Raises what is wrong with the file, UsageError for a
    max_delete that is none."""
    registry = load_registry(settings)
    mirror = read_mirror_file(file, registry)
    destination = open_destination(mirror.destination)
    limit = mirror.max_delete if max_delete is None else _limit(max_delete)
    return Job(mirror, wanted(mirror, registry, settings), destination, registry, settings, limit)


def _limit(text: str | int) -> Limit:
    try:
        return Limit.parse(text)
    except ValueError as error:
        raise UsageError(str(error), "--max-delete") from error
