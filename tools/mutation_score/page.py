"""The tables of docs/smoke-sharpness.md."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path

from benchmarks.fixtures.results import machine, table
from tools.mutation_score import totals
from tools.mutation_score.faults import FAULTS, GROUPS, Fault
from tools.mutation_score.judge import CALIBRATED, CHAT, GOLDEN, UNNAMED, Verdict
from tools.mutation_score.scoring import Outcome

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "smoke-sharpness.md"
DEMOS, OTHER = "demo models", "another model"
NAMED, CAUGHT, MISSED, NOT_THERE = "named", "caught", "missed", "cannot be made in it"
_LONGEST = 110
# The sentence of the first of these that caught it is shown.
_TELLING = (CALIBRATED, CHAT, UNNAMED, GOLDEN)
_MARKUP = str.maketrans({one: f"&#{ord(one)};" for one in "|*`[]~\\"})


def publish(part: str, text: str) -> None:
    """Between the marks of one of the two parts; the rest stays."""
    begin, end = f"<!-- begin: {part} -->\n", f"<!-- end: {part} -->"
    before, found, rest = DOCUMENT.read_text(encoding="utf-8").partition(begin)
    assert found, part
    after = rest.partition(end)[2]
    DOCUMENT.write_text(f"{before}{begin}{text}\n{end}{after}", encoding="utf-8")


def written(outcomes: Sequence[Outcome], command: str) -> str:
    """Totals, then every fault of every model."""
    today = datetime.now(timezone.utc).date().isoformat()
    parts = [f"{machine(ROOT)} {today}, `{command}`."]
    faults = totals.made(outcomes)
    if any(one.variant for one in outcomes):
        parts.append(_of_variants(outcomes))
    if faults:
        parts += [_totals(outcomes), _costless(outcomes)]
    modes = list(faults[0].verdicts) if faults else []
    for model in dict.fromkeys(one.model for one in faults):
        own = {one.what: one for one in outcomes if one.model == model and not one.variant}
        parts += [f"### {model}", table(_columns(modes), list(_rows(own, modes)))]
    return "\n\n".join(parts)


def _totals(outcomes: Sequence[Outcome]) -> str:
    found = list(totals.rows(outcomes))
    lines = [[what, *map(str, counts.values()), aim] for what, aim, counts in found]
    return table(["faults", *found[0][2], "aim"], lines)


def _of_variants(outcomes: Sequence[Outcome]) -> str:
    """How many passed, and what was said of those that did not."""
    wrong = [
        f"- {one.model}, {one.what}, {mode}: {_shown(said, None)}"
        for one in outcomes
        for mode, said in one.verdicts.items()
        if one.variant and said.caught
    ]
    said = f"Of honest variants {totals.alarms(outcomes)} passed."
    return "\n".join([said, "", *wrong]) if wrong else said


def _costless(outcomes: Sequence[Outcome]) -> str:
    found = totals.costless(outcomes)
    return f"Less than {totals.NO_LOSS} nats per token, so no loss, is what these cost: {'; '.join(found)}."


def _columns(modes: Sequence[str]) -> list[str]:
    return ["fault", "nats per token", *modes, "what is said"]


def _rows(outcomes: dict[str, Outcome], modes: Sequence[str]) -> Iterator[list[str]]:
    for group, title in GROUPS.items():
        yield [f"**{title}**", *[""] * (len(modes) + 2)]
        for fault in FAULTS:
            if fault.group == group and fault.what in outcomes:
                yield [fault.what, *_cells(outcomes[fault.what], modes, fault)]


def _cells(outcome: Outcome, modes: Sequence[str], fault: Fault) -> list[str]:
    if not outcome.verdicts:
        return [NOT_THERE, *["-"] * len(modes), ""]
    words = [_word(outcome.verdicts[mode]) for mode in modes]
    telling = [outcome.verdicts[mode] for mode in _TELLING if mode in modes]
    said = next((one for one in telling if one.named), next((one for one in telling if one.caught), None))
    return [_cost(outcome.cost), *words, _shown(said, fault.is_named_in(said.sentence)) if said else ""]


def _word(verdict: Verdict) -> str:
    if not verdict.caught:
        return MISSED
    return NAMED if verdict.named else CAUGHT


def _cost(nats: float | None) -> str:
    if nats is None:
        return "not loaded"
    return f"{nats + 0.0:.2f}" if math.isfinite(nats) else "no number"


def _shown(verdict: Verdict, cause: str | None) -> str:
    """As much of the sentence as a line holds, from the cause on where it is named late."""
    text = verdict.sentence
    at = text.find(cause) if cause and verdict.named else 0
    start = "… " if at + len(cause or "") > _LONGEST else ""
    text = text[at:] if start else text
    end = "…" if len(text) > _LONGEST else ""
    return escape(f"{start}{text[:_LONGEST]}{end}", quote=False).translate(_MARKUP)
