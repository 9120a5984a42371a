"""What the values of every tensor look like, and which of them cannot be right.

A tensor's standard deviation is suspicious if it is more than `FACTOR` times, or less than one part in
`FACTOR` of, the median of the same tensor in the other layers: within a trained model they differ by less.
"""

from __future__ import annotations

import math
import statistics as of
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from converters.checkpoint import Checkpoint
from converters.execute import Stream, in_parallel
from converters.gather import Sources
from converters.inspection.finding import Finding
from converters.logical import pattern_of
from converters.progress import Progress
from converters.rows import Floats, to_float32

FACTOR = 5.0
# Rows of tokens that were never trained may be anything.
_BY_TOKEN = ("embed.weight", "head.weight")
_FEWEST_SIBLINGS = 3


@dataclass(frozen=True)
class TensorStatistics:
    """Of a logical tensor. mean, std, low, high: of its finite values. constant_rows: rows of a matrix that
    hold one value."""

    name: str
    elements: int
    nans: int
    infinities: int
    zeros: int
    constant_rows: int
    mean: float
    std: float
    low: float
    high: float


def statistics_of(
    source: Checkpoint, *, workers: int | None = None, progress: Progress
) -> tuple[TensorStatistics, ...]:
    """Of every tensor, each read once, in memory that does not grow with it."""
    task = "statistics"
    progress.start(task, sum(math.prod(tensor.shape) for tensor in source.tensors.values()))
    with Sources(source.folder) as files:
        stream = Stream(source, files, frozenset())

        def look(name: str) -> TensorStatistics:
            found = _of_tensor(stream, name)
            progress.advance(task, found.elements)
            return found

        found = in_parallel(look, list(source.tensors), workers)
    progress.finish(task)
    return tuple(found)


def _of_tensor(stream: Stream, name: str) -> TensorStatistics:
    tensor = stream.source.tensors[name]
    width = tensor.shape[-1] if len(tensor.shape) > 1 else 0
    nans = infinities = zeros = constant = 0
    total = squares = 0.0
    low, high = math.inf, -math.inf
    for _, data in stream.read(name):
        values = to_float32(data, tensor.dtype)
        finite = values[np.isfinite(values)]
        nans += int(np.isnan(values).sum())
        infinities += int(np.isinf(values).sum())
        zeros += int((values == 0).sum())
        constant += _constant_rows(values, width)
        if len(finite):
            total += float(finite.sum(dtype=np.float64))
            squares += float(np.square(finite, dtype=np.float64).sum())
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    elements = math.prod(tensor.shape)
    count = elements - nans - infinities
    mean = total / count if count else math.nan
    std = math.sqrt(max(0.0, squares / count - mean * mean)) if count else math.nan
    return TensorStatistics(name, elements, nans, infinities, zeros, constant, mean, std, low, high)


def _constant_rows(values: Floats, width: int) -> int:
    if width < 2 or len(values) % width:
        return 0
    rows = values.reshape(-1, width)
    return int((rows == rows[:, :1]).all(axis=1).sum())


def suspicions(found: Sequence[TensorStatistics]) -> Iterator[Finding]:
    """What is wrong by the numbers alone."""
    for tensor in found:
        if tensor.nans:
            yield Finding(f"{tensor.nans:,} of {tensor.elements:,} values are NaN", tensor.name)
        if tensor.infinities:
            yield Finding(f"{tensor.infinities:,} of {tensor.elements:,} values are infinite", tensor.name)
        if tensor.zeros == tensor.elements and not tensor.name.endswith(".bias"):
            yield Finding("all of it is zero", tensor.name)
        elif tensor.constant_rows and tensor.name not in _BY_TOKEN:
            yield Finding(f"{tensor.constant_rows:,} of its rows hold one value each", tensor.name)
    yield from _unlike_their_siblings(found)


def _unlike_their_siblings(found: Sequence[TensorStatistics]) -> Iterator[Finding]:
    kinds: dict[str, list[TensorStatistics]] = {}
    for tensor in found:
        if tensor.std > 0 and "N" in pattern_of(tensor.name):
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
