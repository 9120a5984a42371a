"""What plan, apply and diff answer: values for JSON, tables and summaries, and what the exit code says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from internlm_zoo.errors import PartlyDoneError, ZooError, most_severe
from internlm_zoo.mirror.job import MirrorJob
from internlm_zoo.mirror.limit import excess
from internlm_zoo.mirror.planning import reasons
from internlm_zoo.mirror.values import (
    Action,
    FileCount,
    FileCounts,
    MirrorPlan,
    PlannedRelease,
    UnwantedRelease,
)

Verb = Literal["plan", "apply", "diff"]
Result = Literal["no change", "changes", "changed", "drift", "partly", "failed", "stopped"]
State = Literal["same", "new", "changed", "failed", "unwanted", "removed"]

STOPPED = 9
"""The exit code of an apply that would remove more than it may."""

_DIFFERENT = 1
_FOUND: Mapping[Verb, Result] = {"plan": "changes", "apply": "changed", "diff": "drift"}


@dataclass(frozen=True)
class ReleaseReport:
    """One release of the mirror. source: `hub:repo` it comes from. before, revision: what is held, and what
    is to be or was taken in. files: what becomes, or became, of how many. actions: of which; of a release
    that failed, what is wrong with it. to_fetch: bytes, None if a hub tells no sizes. at_hand: bytes that are
    on this machine already. served: bytes that came, per hub. state `failed`: see problem; `unwanted`: no
    longer chosen; `removed`: not any more."""

    path: str
    model: str
    format: str
    state: State
    source: str | None
    before: str | None
    revision: str | None
    files: FileCounts
    actions: tuple[Action, ...] = ()
    to_fetch: int | None = 0
    at_hand: int = 0
    served: Mapping[str, int] = field(default_factory=dict)
    problem: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """left_out: models that a glob means and that no hub has in these formats. prune: whether what is
    unwanted goes. files: of all releases. unfinished: downloads of releases that are not asked for, which an
    apply forgets. max_delete: the limit. excess: what goes beyond it; then nothing is, or will be, done.
    fetched_bytes: bytes of files that crossed the network, discarded ones too. notes: about the place."""

    verb: Verb
    result: Result
    exit_code: int
    destination: Path
    prune: bool
    files: FileCounts
    to_fetch: int | None
    at_hand: int
    unfinished: FileCount
    max_delete: str
    excess: str | None
    fetched_bytes: int
    releases: tuple[ReleaseReport, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def make_report(
    verb: Verb, job: MirrorJob, plan: MirrorPlan, releases: Iterable[ReleaseReport] | None = None
) -> Report:
    """plan: as it was, or as it turned out. releases: what became of them, if anything was done."""
    beyond = None if releases else excess(plan, job.limit)
    releases = tuple(releases or (*map(release_report, plan.items), *map(unwanted_report, plan.unwanted)))
    result, exit_code = _result(verb, plan)
    if verb == "apply" and beyond:
        result, exit_code = "stopped", STOPPED
    return Report(
        verb=verb,
        result=result,
        exit_code=exit_code,
        destination=Path(job.mirror.destination),
        prune=plan.prune,
        files=plan.counts,
        to_fetch=_total(release.to_fetch for release in releases if not release.problem),
        at_hand=sum(release.at_hand for release in releases if not release.problem),
        unfinished=job.destination.unfinished(job.paths),
        max_delete=str(job.limit),
        excess=beyond,
        fetched_bytes=sum(count for release in releases for count in release.served.values()),
        releases=releases,
        left_out=plan.left_out,
        notes=job.destination.warnings(),
    )


def release_report(
    item: PlannedRelease, served: Mapping[str, int] | None = None, notes: tuple[str, ...] = ()
) -> ReleaseReport:
    """An item as planned, or as it turned out."""
    snapshot, indexed = item.offer.snapshot, item.indexed
    return ReleaseReport(
        path=item.entry.path,
        model=item.entry.model,
        format=item.entry.format,
        state=_state(item),
        source=f"{snapshot.hub}:{snapshot.repo}" if snapshot else None,
        before=indexed.source.revision if indexed else None,
        revision=snapshot.revision if snapshot else None,
        files=item.counts,
        actions=item.actions,
        to_fetch=_total(action.fetch for action in item.to_fetch),
        at_hand=_at_hand(item.to_fetch),
        served=served or {},
        problem=item.problem.what if item.problem else None,
        notes=(*item_notes(item), *notes),
    )


def unwanted_report(unwanted: UnwantedRelease, state: State = "unwanted") -> ReleaseReport:
    indexed = unwanted.indexed
    return ReleaseReport(
        path=indexed.path,
        model=indexed.model,
        format=indexed.format,
        state=state,
        source=f"{indexed.source.hub}:{indexed.source.repo}",
        before=indexed.source.revision,
        revision=None,
        files=unwanted.counts,
        actions=unwanted.actions,
    )


def item_notes(item: PlannedRelease) -> tuple[str, ...]:
    """What a person should know of a release that has no problem."""
    if item.problem:
        return ()
    same = "the files are the same, under another revision or another name"
    relabelled = [same] if item.relabel and not item.acts else []
    hub_notes = item.offer.snapshot.notes if item.offer.snapshot else ()
    return (*reasons(item.offer.failures), *hub_notes, *relabelled)


def _at_hand(actions: Iterable[Action]) -> int:
    return sum((it.size or 0) - it.fetch for it in actions if it.fetch is not None)


def _total(sizes: Iterable[int | None]) -> int | None:
    """None if one of them is unknown."""
    sizes = tuple(sizes)
    return None if None in sizes else sum(size or 0 for size in sizes)


def _result(verb: Verb, plan: MirrorPlan) -> tuple[Result, int]:
    """What was found or done, and the exit code: for plan and diff a difference weighs more than a hub that
    is silent; an apply that could not finish is never a success."""
    problems = [item.problem for item in plan.items if item.problem]
    done = plan.prunes or any(item.changes for item in plan.items if not item.problem)
    differs = done if verb == "apply" else plan.changes
    if problems and not differs and len(problems) == len(plan.items):
        return "failed", _code(problems)
    if verb == "apply" and problems:
        return "partly", PartlyDoneError.exit_code
    if differs:
        return _FOUND[verb], 0 if verb == "apply" else _DIFFERENT
    return ("partly", PartlyDoneError.exit_code) if problems else ("no change", 0)


def _code(problems: Sequence[ZooError]) -> int:
    codes = {problem.exit_code for problem in problems}
    return codes.pop() if len(codes) == 1 else most_severe(problems).exit_code


def _state(item: PlannedRelease) -> State:
    if item.problem:
        return "failed"
    if not item.changes:
        return "same"
    return "changed" if item.indexed and item.indexed.files else "new"
