"""`plan`, `apply` and `diff`: from a mirror file to a report.

An apply killed at any moment is taken up by the next one: what the index says of a file is right, what it
does not speak of is checked or fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from internlm_zoo.mirror.config import MirrorFile, read_mirror_file
from internlm_zoo.mirror.copying import Kit, bring
from internlm_zoo.mirror.destinations import Destination, open_destination
from internlm_zoo.mirror.index import Index
from internlm_zoo.mirror.planning import Plan, Seen, make_plan
from internlm_zoo.mirror.report import (
    Report,
    State,
    item_notes,
    make_report,
    release_report,
    unwanted_report,
)
from internlm_zoo.mirror.survey import Ways, survey, ways_to
from internlm_zoo.mirror.taking import take_in, take_out
from internlm_zoo.mirror.wanted import Wanted, wanted
from internlm_zoo.progress import Progress
from internlm_zoo.registry import Registry, load_registry
from internlm_zoo.settings import Settings
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.values import Patience


def plan(file: Path, *, settings: Settings, deep: bool = False, progress: Progress | None = None) -> Report:
    """What an apply would do; nothing is changed. file: a mirror file, see config.py. deep: hash every file
    of the mirror, not only those touched since they were taken in.

    Raises NotFoundError, RegistryError, UnsupportedError, UsageError for what is wrong with the mirror file,
    and IntegrityError for a mirror whose index cannot be read. A hub that is silent is in the report, not an
    error."""
    return _look("plan", file, settings, deep, progress or Progress())


def diff(file: Path, *, settings: Settings, deep: bool = False, progress: Progress | None = None) -> Report:
    """How the mirror differs from the mirror file and the hubs, whatever an apply would do about it: releases
    no longer chosen and unknown files count too. See `plan`."""
    return _look("diff", file, settings, deep, progress or Progress())


def apply(
    file: Path,
    *,
    settings: Settings,
    deep: bool = False,
    max_workers: int = 8,
    progress: Progress | None = None,
) -> Report:
    """Make the mirror hold what the mirror file says. A release appears when all of its files are checked;
    one that no hub delivers is left as it is and named in the report. A second apply moves no bytes.

    max_workers: files at a time. Raises what `plan` raises, NoSpaceError, and UsageError if another apply is
    at work there."""
    progress, job = progress or Progress(), _open(file, settings)
    with job.destination.guard():
        view = job.view(deep, job.mirror.prune, progress)
        with closing(Client(settings.environ, Patience.of(settings), max_workers)) as client:
            return _apply(
                job, view, Kit(job.destination, settings, client, progress, max_workers, job.mirror.prune)
            )


@dataclass(frozen=True)
class _View:
    """The mirror, and the hubs, as they are now. ways, seen: by path of the release."""

    plan: Plan
    index: Index
    ways: Mapping[str, Ways]
    seen: Mapping[str, Seen]


@dataclass(frozen=True)
class _Job:
    """A mirror file, understood."""

    mirror: MirrorFile
    wanted: Wanted
    destination: Destination
    registry: Registry
    settings: Settings

    def view(self, deep: bool, prune: bool, progress: Progress) -> _View:
        index = self.destination.index()
        ways = ways_to(self.wanted.shelves, index, self.registry, self.settings)
        seen = {}
        for path in ways:
            held = index.find(path)
            files = held.files if held else ()
            seen[path] = self.destination.examine(path, files, deep=deep, progress=progress)
        found = make_plan(self.wanted, survey(ways), index, seen, prune)
        for item in found.items:
            for note in item_notes(item):
                progress.note(f"{item.shelf.path}: {note}")
        return _View(found, index, ways, seen)


def _open(file: Path, settings: Settings) -> _Job:
    registry = load_registry(settings)
    mirror = read_mirror_file(file, registry)
    destination = open_destination(mirror.destination)
    return _Job(mirror, wanted(mirror, registry, settings), destination, registry, settings)


def _look(
    verb: Literal["plan", "diff"], file: Path, settings: Settings, deep: bool, progress: Progress
) -> Report:
    job = _open(file, settings)
    found = job.view(deep, job.mirror.prune or verb == "diff", progress).plan
    releases = [*map(release_report, found.items), *map(unwanted_report, found.unwanted)]
    return make_report(verb, job.mirror, found, releases)


def _apply(job: _Job, view: _View, kit: Kit) -> Report:
    index, done = view.index, []
    for item in view.plan.items:
        path = item.shelf.path
        copied = bring(item, view.ways[path], view.seen[path], kit)
        if copied.item.problem is None and copied.item.changes:
            index = take_in(copied, index, job.destination)
        done.append(copied)
    if view.plan.prune:
        for held in view.plan.unwanted:
            index = take_out(held, index, job.destination)
    job.destination.tidy(view.ways.keys())
    outcome = replace(view.plan, items=tuple(copied.item for copied in done))
    releases = [release_report(copied.item, copied.served, copied.notes) for copied in done]
    fate: State = "removed" if view.plan.prune else "unwanted"
    releases += [unwanted_report(held, fate) for held in view.plan.unwanted]
    return make_report("apply", job.mirror, outcome, releases)
