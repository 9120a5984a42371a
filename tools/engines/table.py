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
    forms: tuple[str, ...]
    quick: bool

    @property
    def version(self) -> str:
        pinned = dict(pin.split("==") for pin in self.install if "==" in pin)
        return next(version for name, version in pinned.items() if name.partition("[")[0] == self.package)

    @property
    def title(self) -> str:
        """Name and version, as the document and `convert` have it."""
        name, package = self.name.casefold(), self.package.casefold()
        if name.startswith(package):
            return f"{self.package} {self.version}"
        if name.endswith(package):
            return f"{self.name} {self.version}"
        return f"{self.name} ({self.package} {self.version})"

    @property
    def venv(self) -> str:
        return "engine-" + "-".join("".join(c if c.isalnum() else " " for c in self.name).split())


@dataclass(frozen=True)
class Outcome:
    """What an engine made of one model in one form of CONVERSIONS, each held against the golden data.

    ids: texts cut as the sentencepiece model cuts them, of all. tokens: greedy continuations of the golden
    ids that are golden. away: largest difference of a log-probability. text: golden tokens that read as the
    golden text. stops: chat answers that ended with their turn, None for a model without turns. refusal: why
    it does not open; the rest is nothing then."""

    engine: Engine
    form: str
    model: str
    ids: tuple[int, int] = (0, 0)
    tokens: tuple[int, int] = (0, 0)
    away: float | None = None
    text: tuple[int, int] = (0, 0)
    stops: tuple[int, int] | None = None
    refusal: str | None = None

    @property
    def right(self) -> bool:
        """Whether all that was asked is as golden; logits of weights that were not rounded to ALIKE."""
        counts = [self.ids, self.tokens, self.text, *([self.stops] if self.stops else [])]
        same = all(found == asked for found, asked in counts)
        close = self.away is None or self.away <= ALIKE or self.form not in EXACT
        return self.refusal is None and same and close


CONVERSIONS = {
    "hf": ("hf", "float32"),
    "llama": ("llama", "float32"),
    "gguf": ("gguf", "float32"),
    "gguf bfloat16": ("gguf", "bfloat16"),
    "gguf q8_0": ("gguf", "q8_0"),
}
"""Form -> --to and --dtype of convert. The demo models hold bfloat16, which float32 keeps."""
EXACT = tuple(form for form, (_, dtype) in CONVERSIONS.items() if dtype == "float32")

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
        tuple(row["forms"]),
        row.get("quick", False),
    )
