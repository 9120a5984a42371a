"""engines.yaml as values, and what each engine made of each directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).with_name("engines.yaml")
PROBES = Path(__file__).with_name("probes")


@dataclass(frozen=True)
class Engine:
    """A row of engines.yaml. version: of `package`, as it is to be installed."""

    name: str
    package: str
    install: tuple[str, ...]
    probe: Path
    formats: tuple[str, ...]
    quick: bool

    @property
    def version(self) -> str:
        pinned = dict(pin.split("==") for pin in self.install if "==" in pin)
        return pinned[self.package]

    @property
    def venv(self) -> str:
        return "engine-" + "-".join("".join(c if c.isalnum() else " " for c in self.name).split())


@dataclass(frozen=True)
class Outcome:
    """What an engine made of one model in one format, each held against the golden data.

    ids: texts cut as the sentencepiece model cuts them, of all. tokens: greedy continuations of the golden
    ids that are golden. away: largest difference of a log-probability. text: golden tokens that read as the
    golden text. stops: chat answers that ended with their turn, None for a model without turns. refusal: why
    it does not open; the rest is nothing then."""

    engine: Engine
    format: str
    model: str
    ids: tuple[int, int] = (0, 0)
    tokens: tuple[int, int] = (0, 0)
    away: float | None = None
    text: tuple[int, int] = (0, 0)
    stops: tuple[int, int] | None = None
    refusal: str | None = None

    @property
    def right(self) -> bool:
        """Whether all that was asked is as golden; logits to ALIKE."""
        counts = [self.ids, self.tokens, self.text, *([self.stops] if self.stops else [])]
        same = all(found == asked for found, asked in counts)
        return self.refusal is None and same and (self.away is None or self.away <= ALIKE)


ALIKE = 1e-4
"""Of log-probabilities: right computations in float32 differ by a tenth of this on golden prompts; exchanged
heads, swapped tensors or a dropped bias move them by 1 and more."""


def read_table() -> tuple[tuple[Engine, ...], tuple[str, ...]]:
    """The engines, and the texts that tokenizers are asked to cut."""
    document: Mapping[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return tuple(_engine(row) for row in document["engines"]), tuple(document["texts"])


def _engine(row: Mapping[str, Any]) -> Engine:
    install: Sequence[str] = row["install"]
    return Engine(
        row["name"],
        row["package"],
        tuple(install),
        PROBES / row["probe"],
        tuple(row["formats"]),
        row.get("quick", False),
    )
