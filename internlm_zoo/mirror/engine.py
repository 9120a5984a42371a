"""`plan`, `apply` and `diff`: from a mirror file to a report.

An apply killed at any moment is taken up by the next one: what the index says of a file is right, what it
does not speak of is checked or fetched. What an apply removes was planned, counted and held against the limit
before it began.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from internlm_zoo.mirror.commit import commit, remove_release
from internlm_zoo.mirror.copying import CopyContext, fetch_files
from internlm_zoo.mirror.job import MirrorJob, MirrorState, open_job
from internlm_zoo.mirror.limit import excess
from internlm_zoo.mirror.options import RunOptions
from internlm_zoo.mirror.report import Report, Verb, make_report, release_report, unwanted_report
from internlm_zoo.mirror.values import MirrorPlan
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings


def plan(
    file: Path, *, settings: Settings, options: RunOptions = RunOptions(), progress: Progress | None = None
) -> Report:
    """What an apply would do; nothing is changed. file: a mirror file, see config.py.

    Raises NotFoundError, MirrorFileError, UnsupportedError, UsageError for what is wrong with the mirror file
    or the options, and IntegrityError for a mirror whose index cannot be read. A hub that is silent is in the
    report, not an error."""
    return _look("plan", open_job(file, settings, options), progress)


def diff(
    file: Path, *, settings: Settings, options: RunOptions = RunOptions(), progress: Progress | None = None
) -> Report:
    """How the mirror differs from the mirror file and the hubs: what `plan` would change is drift, by the
    same rules. See `plan`."""
    return _look("diff", open_job(file, settings, options), progress)


def apply(
    file: Path, *, settings: Settings, options: RunOptions = RunOptions(), progress: Progress | None = None
) -> Report:
    """Make the mirror hold what the mirror file says. A release appears when all of its files are checked;
    one that no hub delivers is left as it is and named in the report. A second apply moves no bytes, and
    needs no place that can be written to. If more
    would be removed than the limit allows nothing is copied, replaced or removed, and the result is
    `stopped`.

    Raises what `plan` raises, NoSpaceError, and UsageError if another apply is at work there."""
    job = open_job(file, settings, options)
    if job.destination.closed() and (report := _look("apply", job, progress)).result == "no change":
        return report
    with job.destination.guard(), job.context(progress or Progress(), writes=True) as context:
        view = job.view(context)
        stopped = excess(view.plan, job.limit)
        return _planned("apply", job, view.plan) if stopped else _apply(job, view, context)


def _look(verb: Verb, job: MirrorJob, progress: Progress | None) -> Report:
    with job.context(progress or Progress(), writes=False) as context:
        return _planned(verb, job, job.view(context).plan)


def _planned(verb: Verb, job: MirrorJob, plan: MirrorPlan) -> Report:
    return make_report(verb, plan, job.limit, job.place())


def _apply(job: MirrorJob, view: MirrorState, context: CopyContext) -> Report:
    index, releases, items, gone = view.index, [], [], []
    for item in view.plan.items:
        copied = fetch_files(item, view.sources[item.entry.path], context)
        item = copied.item
        if item.problem is None and item.changes:
            index, item = commit(copied, index, job.destination)
            if indexed := index.find(item.entry.path):
                context.add_contents(indexed)
        items.append(item)
        releases.append(release_report(item, copied.served, copied.notes))
    for unwanted in view.plan.unwanted:
        if view.plan.prune:
            index, unwanted = remove_release(unwanted, index, job.destination)
        gone.append(unwanted)
        releases.append(unwanted_report(unwanted, "removed" if view.plan.prune else "unwanted"))
    place = job.place()
    job.destination.tidy(view.sources)
    outcome = replace(view.plan, items=tuple(items), unwanted=tuple(gone))
    return make_report("apply", outcome, job.limit, place, releases)
