"""docs/engines.md and the table that `convert` reads: both from the same outcomes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.demo_training.recipes import RECIPES
from tools.engines.table import EXACT, Outcome
from tools.venvs import ROOT

DOCUMENT = ROOT / "docs" / "engines.md"
DATA = ROOT / "internlm_zoo" / "checkpoints" / "engines.json"
BEGIN, END = "<!-- begin: make engine-matrix -->\n", "<!-- end -->"

FAMILIES = {recipe.name: recipe.family for recipe in RECIPES}
_FIGURE = re.compile(r"\de-\d\d|0e\+00")
_HEAD = "| engine | format | model | token ids | greedy tokens | log-probabilities | text | stops |"


def tables(outcomes: Sequence[Outcome], missing: Mapping[str, str]) -> str:
    """What stands between the marks. missing: engine -> why it could not be installed."""
    opened = [outcome for outcome in outcomes if outcome.refusal is None]
    lines = [_HEAD, "| --- | --- | --- | --: | --: | --: | --: | --: |", *map(_row, opened)]
    refused = [outcome for outcome in outcomes if outcome.refusal is not None]
    if refused:
        lines += ["", "| does not open | format | model | its own words |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {outcome.engine.title} | {outcome.form} | {outcome.model} | {_words(outcome.refusal)} |"
            for outcome in refused
        ]
    if missing:
        lines += ["", "| did not install here | pip's own words |", "| --- | --- |"]
        lines += [f"| {name} | {_words(why)} |" for name, why in missing.items()]
    return "\n".join(lines) + "\n"


def _row(outcome: Outcome) -> str:
    away = "" if outcome.away is None else f"{outcome.away:.0e}"
    stops = "" if outcome.stops is None else _share(outcome.stops)
    return (
        f"| {outcome.engine.title} | {outcome.form} | {outcome.model} | {_share(outcome.ids)} | "
        f"{_share(outcome.tokens)} | {away} | {_share(outcome.text)} | {stops} |"
    )


def without_figures(line: str) -> str:
    """A row less its difference of logits, which is not the same on every processor."""
    return "|".join(cell for cell in line.split("|") if not _FIGURE.fullmatch(cell.strip()))


def _share(count: tuple[int, int]) -> str:
    found, asked = count
    return f"all {asked}" if found == asked else f"**{found} of {asked}**"


def _words(text: str | None) -> str:
    """The first sentence, without the paths of this machine."""
    sentence = (text or "").partition(". ")[0]
    words = (word if "/" not in word else Path(word).name for word in sentence.split())
    return " ".join(words).replace("|", "\\|")[:300]


def opens(outcomes: Sequence[Outcome]) -> dict[str, dict[str, list[str]]]:
    """family -> format -> the engines that were right in all they were asked."""
    found: dict[str, dict[str, list[str]]] = {}
    for outcome in (one for one in outcomes if one.form in EXACT):
        right = found.setdefault(FAMILIES[outcome.model], {}).setdefault(outcome.form, [])
        if outcome.right:
            right.append(outcome.engine.title)
    return found


def write(outcomes: Sequence[Outcome], missing: Mapping[str, str]) -> None:
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{tables(outcomes, missing)}{END}{after}", encoding="utf-8")
    DATA.write_text(json.dumps(opens(outcomes), indent=1, sort_keys=True) + "\n", encoding="utf-8")
