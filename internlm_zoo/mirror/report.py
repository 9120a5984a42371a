"""What plan, apply and diff answer: values for JSON, tables and summaries, and what the exit code says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from internlm_zoo.errors import PartlyDoneError, ZooError
from internlm_zoo.mirror.config import MirrorFile
from internlm_zoo.mirror.index import Held
from internlm_zoo.mirror.planning import Action, Item, Plan, reasons
from internlm_zoo.transfer.refusal import gravest

Verb = Literal["plan", "apply", "diff"]
Result = Literal["no change", "changes", "changed", "drift", "partly", "failed"]
State = Literal["same", "new", "changed", "failed", "unwanted", "removed"]

_DIFFERENT = 1
_FOUND: Mapping[Verb, Result] = {"plan": "changes", "apply": "changed", "diff": "drift"}


@dataclass(frozen=True)
class ReleaseReport:
    """One release of the mirror. source: `hub:repo` it comes from. before, revision: what is held, and what
    is to be or was taken in. same: files that are right already. to_fetch: bytes, None if a hub tells no
    sizes. served: bytes that came, per hub. state `failed`: see problem; `unwanted`: no longer chosen;
    `removed`: not any more."""

    path: str
    model: str
    format: str
    state: State
    source: str | None
    before: str | None
    revision: str | None
    same: int
    actions: tuple[Action, ...] = ()
    to_fetch: int | None = 0
    served: Mapping[str, int] = field(default_factory=dict)
    problem: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """left_out: models that a glob means and that no hub has in these formats. prune: whether what is
    unwanted goes. fetched_bytes: bytes of files that crossed the network, discarded ones too."""

    verb: Verb
    result: Result
    exit_code: int
    destination: Path
    prune: bool
    fetched_bytes: int
    releases: tuple[ReleaseReport, ...]
    left_out: tuple[str, ...]


def make_report(verb: Verb, mirror: MirrorFile, plan: Plan, releases: Iterable[ReleaseReport]) -> Report:
    """plan: as it was, or as it turned out."""
    releases = tuple(releases)
    problems = [item.problem for item in plan.items if item.problem]
    done = plan.prunes or any(item.changes for item in plan.items if not item.problem)
    differs = done if verb == "apply" else plan.changes
    result, exit_code = _verdict(verb, differs, problems, len(plan.items))
    return Report(
        verb=verb,
        result=result,
        exit_code=exit_code,
        destination=Path(mirror.destination),
        prune=mirror.prune,
        fetched_bytes=sum(count for release in releases for count in release.served.values()),
        releases=releases,
        left_out=plan.left_out,
    )


def release_report(
    item: Item, served: Mapping[str, int] | None = None, notes: tuple[str, ...] = ()
) -> ReleaseReport:
    """An item as planned, or as it turned out."""
    snapshot, held = item.offer.snapshot, item.held
    sizes = [action.size for action in item.to_fetch]
    return ReleaseReport(
        path=item.shelf.path,
        model=item.shelf.model,
        format=item.shelf.format,
        state=_state(item),
        source=f"{snapshot.hub}:{snapshot.repo}" if snapshot else None,
        before=held.source.revision if held else None,
        revision=snapshot.revision if snapshot else None,
        same=(_count(held) if item.problem or not snapshot else len(snapshot.files)) - len(item.to_fetch),
        actions=item.actions,
        to_fetch=None if None in sizes else sum(size or 0 for size in sizes),
        served=served or {},
        problem=item.problem.what if item.problem else None,
        notes=(*item_notes(item), *notes),
    )


def item_notes(item: Item) -> tuple[str, ...]:
    """What a person should know of a release that has no problem."""
    if item.problem:
        return ()
    same = "the files are the same, under another revision or another name"
    relabelled = [same] if item.relabel and not item.actions else []
    return (*reasons(item.offer.failures), *relabelled)


def unwanted_report(held: Held, state: State = "unwanted") -> ReleaseReport:
    return ReleaseReport(
        path=held.path,
        model=held.model,
        format=held.format,
        state=state,
        source=f"{held.source.hub}:{held.source.repo}",
        before=held.source.revision,
        revision=None,
        same=len(held.files),
    )


def _state(item: Item) -> State:
    if item.problem:
        return "failed"
    if not item.changes:
        return "same"
    return "changed" if item.held else "new"


def _count(held: Held | None) -> int:
    return len(held.files) if held else 0


def _verdict(verb: Verb, differs: bool, problems: Sequence[ZooError], asked: int) -> tuple[Result, int]:
    """What was found or done, and the exit code: for plan and diff a difference weighs more than a hub that
    is silent; an apply that could not finish is never a success."""
    if problems and not differs and len(problems) == asked:
        return "failed", gravest(problems).exit_code
    if verb == "apply" and problems:
        return "partly", PartlyDoneError.exit_code
    if differs:
        return _FOUND[verb], 0 if verb == "apply" else _DIFFERENT
    return ("partly", PartlyDoneError.exit_code) if problems else ("no change", 0)
