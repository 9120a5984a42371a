"""`plan`, `apply` and `diff`: from a mirror file to a report.

An apply killed at any moment is taken up by the next one: what the index says of a file is right, what it
does not speak of is checked or fetched. What an apply removes was planned, counted and held against the limit
before it began.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from internlm_zoo.downloads.selection import Selection, hint
from internlm_zoo.errors import NotFoundError
from internlm_zoo.mirror.commit import commit, remove_release
from internlm_zoo.mirror.config import RunOptions
from internlm_zoo.mirror.copying import CopyContext, fetch_files, open_context, with_local_copies
from internlm_zoo.mirror.job import MirrorJob, open_job
from internlm_zoo.mirror.limit import excess
from internlm_zoo.mirror.listings import survey
from internlm_zoo.mirror.planning import make_plan
from internlm_zoo.mirror.report import Report, Verb, item_notes, make_report, release_report, unwanted_report
from internlm_zoo.mirror.values import HubOffer, LocalState, MirrorPlan
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

_LOOK = "`mirror plan` lists what there is"


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
    with job.destination.guard(), open_context(job, progress, writes=True) as context:
        found = _plan(context)
        return make_report("apply", job, found) if excess(found, job.limit) else _apply(found, context)


def _look(verb: Verb, job: MirrorJob, progress: Progress | None) -> Report:
    with open_context(job, progress, writes=False) as context:
        return make_report(verb, job, _plan(context))


def _plan(context: CopyContext) -> MirrorPlan:
    """Of the mirror, and the hubs, as they are now. Raises NotFoundError if nothing has a file that the
    options name."""
    job, index = context.job, context.index
    offers = survey(context.listings, job.wanted.entries)
    _check_named(job.options.choice, offers.values())
    paths = dict.fromkeys((*offers, *(indexed.path for indexed in index.releases)))
    on_disk = {path: _on_disk(path, offers.get(path), context) for path in paths}
    found = make_plan(job.wanted, offers, index, on_disk, job.policy)
    for indexed in index.releases if any(item.to_fetch for item in found.items) else ():
        context.add_contents(indexed, without=on_disk[indexed.path].damaged | on_disk[indexed.path].missing)
    found = replace(found, items=tuple(with_local_copies(found.items, context)))
    for item in found.items:
        for note in item_notes(item):
            context.progress.note(f"{item.entry.path}: {note}")
    return found


def _on_disk(path: str, offer: HubOffer | None, context: CopyContext) -> LocalState:
    """offer: None for a release that is not asked for; of that nothing is hashed."""
    destination, indexed, progress = context.job.destination, context.index.find(path), context.progress
    files = indexed.files if indexed and offer else ()
    on_disk = destination.examine(path, files, deep=context.job.options.deep, progress=progress)
    known = {file.path for file in files} - on_disk.damaged
    listed = offer.snapshot.files if offer and offer.snapshot else ()
    here = (file for file in listed if file.identified and file.path in on_disk.files)
    unknown = [file for file in here if file.path not in known]
    return replace(on_disk, right=destination.recognise(path, unknown, progress=progress))


def _check_named(choice: Selection, offers: Iterable[HubOffer]) -> None:
    """A release need not have a file that is named, but one of them must."""
    there = {file.path for offer in offers if offer.snapshot for file in offer.snapshot.files}
    for path in choice.files if there else ():
        if path not in there:
            raise NotFoundError(f"no release has a file {path}", fix=hint(path, sorted(there)) or _LOOK)
    if there and not any(map(choice.wants, there)):
        raise NotFoundError("no file is chosen", fix=_LOOK)


def _apply(found: MirrorPlan, context: CopyContext) -> Report:
    job, index, releases, items, gone = context.job, context.index, [], [], []
    for item in found.items:
        copied = fetch_files(item, context)
        item = copied.item
        if item.problem is None and item.changes:
            index, item = commit(copied, index, job.destination)
            if indexed := index.find(item.entry.path):
                context.add_contents(indexed)
        items.append(item)
        releases.append(release_report(item, copied.served, copied.notes))
    for unwanted in found.unwanted:
        if found.prune:
            index, unwanted = remove_release(unwanted, index, job.destination)
        gone.append(unwanted)
        releases.append(unwanted_report(unwanted, "removed" if found.prune else "unwanted"))
    outcome = replace(found, items=tuple(items), unwanted=tuple(gone))
    report = make_report("apply", job, outcome, releases)
    job.destination.tidy(job.paths)
    return report
