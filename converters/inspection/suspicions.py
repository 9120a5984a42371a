"""Which tensors cannot be right, by what their values look like.

A matrix's standard deviation is suspicious if it is more than `FACTOR` times, or less than one part in
`FACTOR` of, the median of the same matrix in the other layers: within a trained model they differ by less.
Those of norms and biases differ more, and are not held against each other. The part of a matrix that one
rank of an original checkpoint held is suspicious if it is `SEAM` times as large as those of the others, or
as small: nothing in a model changes where ranks are cut.
"""

from __future__ import annotations

import math
import statistics as of
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from converters.geometry.logical import pattern_of
from converters.inspection.finding import Finding
from converters.inspection.lines import PARTS
from converters.inspection.statistics import TensorStatistics
from converters.inspection.tokenizers import TokenizerFile, known_tokens
from converters.layouts.llama import TIED
from converters.source.checkpoint import Checkpoint
from converters.source.tied import EMBEDDING, HEAD

FACTOR = 5.0
SEAM = 3.0
_ALIKE = 0.8
_FEWEST_SIBLINGS = 3  # of fewer, the one that is wrong may be the median
_RANKS = (2, 4, 8)  # that the released checkpoints were trained by
_OF_TOKENS = (EMBEDDING, HEAD)
_NORM = "norm.weight"

# Which lines of a matrix ranks share, where those of one rank are like those of another: rows of queries and
# keys are not, whose pairs turn at different speeds, nor are the embedding's, whose tokens differ.
_CUT: Mapping[str, str] = {
    "layers.N.attention.o.weight": "columns",
    "layers.N.mlp.down.weight": "columns",
    "layers.N.mlp.gate.weight": "rows",
    "layers.N.mlp.up.weight": "rows",
}


@dataclass(frozen=True)
class Told:
    """What is known of a checkpoint besides its values. tokens: how many its tokenizer knows; rows beyond are
    padding. pad: the token whose row may be zero. untied: whether its config says that the head is not the
    embedding."""

    tokens: int | None = None
    pad: int | None = None
    untied: bool = False


def told_by(checkpoint: Checkpoint, tokenizer: Iterable[TokenizerFile]) -> Told:
    pad = checkpoint.facts.get("pad_token_id")
    id = pad.value if pad and type(pad.value) is int else None
    return Told(known_tokens(tokenizer), id, checkpoint.config.get(TIED) is False)


def suspicions(found: Sequence[TensorStatistics], told: Told) -> Iterator[Finding]:
    """What is wrong by the numbers."""
    for tensor in found:
        yield from _of_values(tensor)
        if tensor.name in _OF_TOKENS:
            yield from _zero_rows(tensor, told)
        yield from _seam(tensor)
    yield from _copies(tensor for tensor in found if told.untied or tensor.name != HEAD)
    yield from _unlike_their_siblings(found)


def _of_values(tensor: TensorStatistics) -> Iterator[Finding]:
    if tensor.nans:
        yield Finding(f"{tensor.nans:,} of {tensor.elements:,} values are NaN", tensor.name)
    if tensor.infinities:
        yield Finding(f"{tensor.infinities:,} of {tensor.elements:,} values are infinite", tensor.name)
    if tensor.zeros == tensor.elements and not tensor.name.endswith(".bias"):
        yield Finding("all of it is zero", tensor.name)
    elif tensor.constant_rows and _in_a_layer(tensor):  # rows of tokens never trained may be anything
        yield Finding(f"{tensor.constant_rows:,} of its rows hold one value each", tensor.name)
    if tensor.name.endswith(_NORM) and tensor.low == tensor.high == 1:
        yield Finding("all of its values are 1, as before any training: its own were lost", tensor.name)


def _zero_rows(tensor: TensorStatistics, told: Told) -> Iterator[Finding]:
    """Rows of tokens that a model knows; those that only make a vocabulary longer are zero by right."""
    rows = tensor.shape[0]
    tokens = told.tokens
    if tokens is None:
        tokens = next((start for start, stop in tensor.lines.zero_rows if stop == rows), rows)
    wrong = [
        row
        for start, stop in tensor.lines.zero_rows
        for row in range(start, min(stop, tokens))
        if row != told.pad
    ]
    if wrong and tensor.zeros < tensor.elements:
        what = f"{len(wrong):,} of its {rows:,} rows are zero, that of token {wrong[0]} the first"
        yield Finding(f"{what}: these were never filled", tensor.name)


def _seam(tensor: TensorStatistics) -> Iterator[Finding]:
    """A step in size from one rank's part to the next."""
    cut = _CUT.get(pattern_of(tensor.name))
    parts = {"rows": tensor.lines.row_parts, "columns": tensor.lines.column_parts}.get(cut or "", ())
    steps = [step for ranks in _RANKS if parts for step in _steps(parts, ranks)]
    furthest = max((step.off for step in steps), default=0.0)
    if furthest > SEAM:
        step = next(
            step for step in steps if step.off >= _ALIKE * furthest
        )  # of the fewest ranks that show it
        lines = tensor.shape[0] if cut == "rows" else tensor.shape[-1]
        first, stop = (number * lines // step.ranks for number in (step.rank, step.rank + 1))
        held = f"{cut} {first:,} to {stop - 1:,}, the part of rank {step.rank} of {step.ranks},"
        what = f"{held} are {step.ratio:.3g} times as large as the others: it is not of this tensor"
        yield Finding(what, tensor.name)


@dataclass(frozen=True)
class _Step:
    """ratio: of the size of what one rank holds to what the others do; off: the same or its inverse."""

    rank: int
    ranks: int
    ratio: float

    @property
    def off(self) -> float:
        return max(self.ratio, 1 / self.ratio) if self.ratio else math.inf


def _steps(parts: Sequence[float], ranks: int) -> Iterator[_Step]:
    each = PARTS // ranks
    sizes = [of.fmean(parts[at : at + each]) for at in range(0, PARTS, each)]
    for rank, size in enumerate(sizes):
        usual = of.median(other for number, other in enumerate(sizes) if number != rank)
        if usual:
            yield _Step(rank, ranks, size / usual)


def _copies(found: Iterable[TensorStatistics]) -> Iterator[Finding]:
    """Tensors that hold what another one of their kind does."""
    first: dict[tuple[str, str], TensorStatistics] = {}
    for tensor in found:
        if not tensor.std > 0:  # all of one value, like other tensors of one value
            continue
        kind = EMBEDDING if tensor.name in _OF_TOKENS else pattern_of(tensor.name)
        same = first.setdefault((kind, tensor.digest), tensor)
        if same is not tensor:
            how = (
                "the head was lost, or the config says in error that the two are not one"
                if tensor.name == HEAD
                else "one of the two layers was written over the other"
            )
            yield Finding(f"it holds the same values as {same.name}: {how}", tensor.name)


def _in_a_layer(tensor: TensorStatistics) -> bool:
    return pattern_of(tensor.name) != tensor.name


def _unlike_their_siblings(found: Sequence[TensorStatistics]) -> Iterator[Finding]:
    kinds: dict[str, list[TensorStatistics]] = {}
    for tensor in found:
        if tensor.std > 0 and len(tensor.shape) > 1 and _in_a_layer(tensor):
            kinds.setdefault(pattern_of(tensor.name), []).append(tensor)
    for siblings in kinds.values():
        if len(siblings) <= _FEWEST_SIBLINGS:
            continue
        for tensor in siblings:
            usual = of.median(other.std for other in siblings if other is not tensor)
            ratio = tensor.std / usual
            if not 1 / FACTOR <= ratio <= FACTOR:
                yield Finding(
                    f"its standard deviation, {tensor.std:.3g}, is {ratio:.3g} times that of the same tensor "
                    "in other layers",
                    tensor.name,
                )
