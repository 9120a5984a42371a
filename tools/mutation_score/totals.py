"""What the outcomes come to, beside what they should."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tools.mutation_score.judge import CALIBRATED, CHAT, GOLDEN, UNNAMED
from tools.mutation_score.scoring import Outcome

DEAR = 0.3
"""Nats per token from which on a fault has to be caught, whatever is known of the model."""
NO_LOSS = 0.01
# The least share of all faults, most of which are dear.
CAUGHT = {GOLDEN: 1.0, CALIBRATED: 0.8, UNNAMED: 0.72, CHAT: 0.8}
NAMED = 0.8


@dataclass(frozen=True)
class Count:
    """good of `all`. aim: the least share, None where none is asked."""

    good: int
    all: int
    aim: float | None = None

    @property
    def met(self) -> bool:
        return self.aim is None or self.good >= self.aim * self.all

    def __str__(self) -> str:
        return f"{self.good} of {self.all}"


Row = tuple[str, str, Mapping[str, Count]]
"""What is counted, what is aimed at, and by mode."""


def made(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Faults that the model has something to be made in."""
    return [one for one in outcomes if one.verdicts and not one.variant]


def rows(outcomes: Sequence[Outcome]) -> Iterator[Row]:
    faults = made(outcomes)
    modes = list(faults[0].verdicts) if faults else []
    for model in dict.fromkeys(one.model for one in faults):
        own = [one for one in faults if one.model == model]
        yield f"caught in {model}", "", {mode: _caught(own, mode) for mode in modes}
    aims = ", ".join(f"{mode} {CAUGHT[mode]:.0%}" for mode in modes)
    yield "caught in all", aims, {mode: _caught(faults, mode, CAUGHT[mode]) for mode in modes}
    dear = [one for one in faults if one.cost is not None and round(one.cost, 2) >= DEAR]
    yield f"caught that cost {DEAR} or more", "all", {mode: _caught(dear, mode, 1) for mode in modes}
    yield "named rightly", f"{NAMED:.0%}", {mode: _named(faults, mode) for mode in modes}


def _caught(faults: Sequence[Outcome], mode: str, aim: float | None = None) -> Count:
    return Count(sum(one.verdicts[mode].caught for one in faults), len(faults), aim)


def _named(faults: Sequence[Outcome], mode: str) -> Count:
    """Of those that have a name."""
    known = [one.verdicts[mode].named for one in faults if one.verdicts[mode].named is not None]
    return Count(sum(map(bool, known)), len(known), NAMED)


def alarms(outcomes: Sequence[Outcome]) -> Count:
    """Honest variants that passed, in whatever mode."""
    found = [said for one in outcomes if one.variant for said in one.verdicts.values()]
    return Count(sum(not said.caught for said in found), len(found), 1)


def costless(outcomes: Sequence[Outcome]) -> list[str]:
    """Faults that cost no model any loss."""
    costs: dict[str, list[float]] = {}
    for one in made(outcomes):
        costs.setdefault(one.what, []).append(math.inf if one.cost is None else one.cost)
    return [what for what, found in costs.items() if max(found) < NO_LOSS]


def met(outcomes: Sequence[Outcome]) -> bool:
    """Whether every aim is, as far as anything was tried."""
    counts = [count for _, _, by_mode in rows(outcomes) for count in by_mode.values()]
    return all(count.met for count in [*counts, alarms(outcomes)])
