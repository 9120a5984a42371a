"""`plan`, `apply` and `diff`: from a mirror file to a report.

An apply killed at any moment is taken up by the next one: what the index says of a file is right, what it
does not speak of is checked or fetched. What an apply removes was planned, counted and held against the limit
before it began.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from internlm_zoo.mirror.copying import Kit, bring
from internlm_zoo.mirror.job import Job, View, open_job
from internlm_zoo.mirror.limit import excess
from internlm_zoo.mirror.report import Report, Verb, make_report, release_report, unwanted_report
from internlm_zoo.mirror.taking import take_in, take_out
from internlm_zoo.mirror.values import Plan
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.values import Patience


def plan(
    file: Path,
    *,
    settings: Settings,
    deep: bool = False,
    max_delete: str | int | None = None,
    progress: Progress | None = None,
) -> Report:
    """What an apply would do; nothing is changed. file: a mirror file, see config.py. deep: hash every file
    of the mirror, not only those touched since they were taken in. max_delete: instead of the mirror file's.

    Raises NotFoundError, RegistryError, UnsupportedError, UsageError for what is wrong with the mirror file,
    and IntegrityError for a mirror whose index cannot be read. A hub that is silent is in the report, not an
    error."""
    return _look("plan", open_job(file, settings, max_delete), deep, progress)


def diff(file: Path, *, settings: Settings, deep: bool = False, progress: Progress | None = None) -> Report:
    """How the mirror differs from the mirror file and the hubs: what `plan` would change is drift, by the
    same rules. See `plan`."""
    return _look("diff", open_job(file, settings), deep, progress)


def apply(
    file: Path,
    *,
    settings: Settings,
    deep: bool = False,
    max_delete: str | int | None = None,
    max_workers: int = 8,
    progress: Progress | None = None,
) -> Report:
    """Make the mirror hold what the mirror file says. A release appears when all of its files are checked;
    one that no hub delivers is left as it is and named in the report. A second apply moves no bytes. If more
    would be removed than the limit allows nothing is copied, replaced or removed, and the result is
    `stopped`.

    max_workers: files at a time. Raises what `plan` raises, NoSpaceError, and UsageError if another apply is
    at work there."""
    progress, job = progress or Progress(), open_job(file, settings, max_delete)
    with job.destination.guard():
        view = job.view(deep, progress)
        if excess(view.plan, job.limit):
            return _planned("apply", job, view.plan)
        with closing(
            Client(settings.environ, Patience.of(settings), max_workers, tell=progress.note)
        ) as client:
            kit = Kit(job.destination, settings, client, progress, max_workers, job.mirror.prune)
            return _apply(job, view, kit)


def _look(verb: Verb, job: Job, deep: bool, progress: Progress | None) -> Report:
    return _planned(verb, job, job.view(deep, progress or Progress()).plan)


def _planned(verb: Verb, job: Job, plan: Plan) -> Report:
    place = job.destination
    unfinished = place.unfinished([shelf.path for shelf in job.wanted.shelves])
    return make_report(verb, job.mirror, plan, job.limit, unfinished=unfinished, notes=place.warnings())


def _apply(job: Job, view: View, kit: Kit) -> Report:
    index, releases, items, gone = view.index, [], [], []
    for item in view.plan.items:
        copied = bring(item, view.ways[item.shelf.path], kit)
        item = copied.item
        if item.problem is None and item.changes:
            index, item = take_in(copied, index, job.destination)
        items.append(item)
        releases.append(release_report(item, copied.served, copied.notes))
    for leaving in view.plan.unwanted:
        if view.plan.prune:
            index, leaving = take_out(leaving, index, job.destination)
        gone.append(leaving)
        releases.append(unwanted_report(leaving, "removed" if view.plan.prune else "unwanted"))
    unfinished = job.destination.unfinished(view.ways)
    job.destination.tidy(view.ways)
    outcome = replace(view.plan, items=tuple(items), unwanted=tuple(gone))
    notes = job.destination.warnings()
    return make_report(
        "apply", job.mirror, outcome, job.limit, releases=releases, unfinished=unfinished, notes=notes
    )
