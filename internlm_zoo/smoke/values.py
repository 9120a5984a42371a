"""What the values of the weights say before any of them is used: what a deep `inspect` says, and whether they
were trained.

Random weights of any distribution have rows and columns of one size but for chance
(`converters.inspection.lines`); those of a trained model's matrices vary many times more.
"""

from __future__ import annotations

import math
import statistics as of
from collections.abc import Iterator, Sequence

from converters.geometry.logical import pattern_of
from converters.inspection.finding import Finding
from converters.inspection.lines import Lines
from converters.inspection.statistics import TensorStatistics, statistics_of
from converters.inspection.suspicions import suspicions, told_by
from converters.inspection.tokenizers import tokenizer_files
from converters.progress import NullProgress
from internlm_zoo.loading.directory import ModelDirectory
from internlm_zoo.smoke.result import Check

TRAINED = 2.0
"""The least that rows or columns of queries and keys vary in a trained model, over chance, in the middling
matrix; 1 is chance (docs/smoke.md)."""
# Training shows most in these, whose pairs of rows turn at different speeds.
_TELLING = ("layers.N.attention.q.weight", "layers.N.attention.k.weight")
_SHOWN = 3


def values_check(directory: ModelDirectory, *, trained: bool = True) -> Check:
    """Every tensor is read once. trained: whether they have to be a trained model's; a miniature's are
    not."""
    checkpoint = directory.checkpoint
    found = statistics_of(checkpoint, workers=None, progress=NullProgress())
    wrong = [*suspicions(found, told_by(checkpoint, tokenizer_files(checkpoint.folder)[0]))]
    wrong += untrained(found) if trained else ()
    if not wrong:
        kind = "a trained model's" if trained else "a sound model's"
        return Check("values", True, f"the values of {len(found)} tensors look like {kind}")
    said = [f"{one.where}: {one.what}" if one.where else one.what for one in wrong[:_SHOWN]]
    more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
    return Check("values", False, "; ".join([*said, *more]))


def untrained(found: Sequence[TensorStatistics]) -> Iterator[Finding]:
    """Whether queries and keys of the layers are as even as random numbers."""
    known = [unevenness(one.lines) for one in found if pattern_of(one.name) in _TELLING]
    usual = of.median(value for value in known if value is not None) if any(known) else math.inf
    if usual < TRAINED:
        yield Finding(
            f"rows and columns of queries and keys vary {usual:.2g} times as much as those of random numbers "
            f"(a trained model's: at least {TRAINED:g} times): the weights are random"
        )


def unevenness(lines: Lines) -> float | None:
    """How much more rows or columns vary than by chance, whichever more; None for what is no such matrix."""
    spreads = [spread for spread in (lines.row_spread, lines.column_spread) if spread is not None]
    return max(spreads, default=None)
