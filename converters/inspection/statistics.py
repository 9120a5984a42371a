"""What the values of every tensor look like; `suspicions` says which of them cannot be right."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
from blake3 import blake3

from converters.containers.container import StoredFile
from converters.formats.folder import Folder
from converters.formats.tensors import ELEMENT_TYPES, StoredTensor, nbytes
from converters.geometry.blocks import BLOCK
from converters.inspection.lines import Lines, LineSums
from converters.progress import Progress
from converters.source.checkpoint import Checkpoint, LogicalTensor
from converters.source.elements import FLOATS
from converters.source.gather import Bytes, Sources
from converters.streaming.rows import Floats, to_floats
from converters.streaming.stream import Stream, in_parallel

_TASK = "statistics"
# Elements looked at together: what a processor's cache holds.
_CHUNK = 1 << 16


@dataclass(frozen=True)
class TensorStatistics:
    """shape: of a logical tensor, or of a stored one of a file. mean, std, low, high: of its finite values.
    constant_rows: rows of a matrix that hold one value. digest: of its bytes in canonical order, BLAKE3.
    lines: rows and columns of a matrix, if all its values are finite."""

    name: str
    shape: tuple[int, ...]
    elements: int
    nans: int
    infinities: int
    zeros: int
    constant_rows: int
    mean: float
    std: float
    low: float
    high: float
    digest: str
    lines: Lines


def statistics_of(
    source: Checkpoint, *, workers: int | None, progress: Progress
) -> tuple[TensorStatistics, ...]:
    """Of every tensor, each read once, in memory that does not grow with it."""
    with Sources(source.folder) as files:
        stream = Stream(source, files, frozenset())

        def look(tensor: LogicalTensor) -> TensorStatistics:
            blocks = (data for _, data in stream.read(tensor.name))
            return _describe(tensor.name, tensor.dtype, tensor.shape, blocks, progress)

        tensors = sorted(source.own.values(), key=lambda tensor: source.first_byte([tensor.name]))
        progress.start(_TASK, sum(nbytes(tensor.dtype, tensor.shape) for tensor in tensors))
        found = in_parallel(look, tensors, 1 if source.folder.in_order else workers)
    progress.finish(_TASK)
    by_name = {statistics.name: statistics for statistics in found}
    return tuple(by_name[name] for name in source.own)


def statistics_of_files(
    folder: Folder, files: Sequence[StoredFile], *, workers: int | None, progress: Progress
) -> tuple[TensorStatistics, ...]:
    """The same of the stored tensors of files that make up no checkpoint: all that lie in one piece and whose
    values are floating-point numbers."""
    tensors = [
        (file, tensor)
        for file in files
        for tensor in file.tensors.values()
        if tensor.contiguous and tensor.dtype in FLOATS
    ]
    progress.start(_TASK, sum(tensor.nbytes for _, tensor in tensors))
    look = partial(_describe_stored, folder, progress)
    found = in_parallel(look, tensors, 1 if folder.in_order else workers)
    progress.finish(_TASK)
    return tuple(found)


def _describe_stored(
    folder: Folder, progress: Progress, where: tuple[StoredFile, StoredTensor]
) -> TensorStatistics:
    file, tensor = where
    with closing(folder.open(file.name)) as source:
        source.expect(tensor.offset, tensor.nbytes)
        row = tensor.shape[-1] * ELEMENT_TYPES[tensor.dtype].itemsize if tensor.shape else 1
        step = max(1, BLOCK // max(row, 1)) * max(row, 1)
        blocks = (
            np.frombuffer(source.read(tensor.offset + at, min(step, tensor.nbytes - at)), np.uint8)
            for at in range(0, tensor.nbytes, step)
        )
        return _describe(f"{file.name}: {tensor.name}", tensor.dtype, tensor.shape, blocks, progress)


def _describe(
    name: str, dtype: str, shape: tuple[int, ...], blocks: Iterable[Bytes], progress: Progress
) -> TensorStatistics:
    """blocks: its bytes in canonical order, cut between rows."""
    width = shape[-1] if len(shape) > 1 else 0
    counts, digest = _Counts(width), blake3()
    for data in blocks:
        digest.update(data.data)
        step = max(1, _CHUNK // max(width, 1)) * max(width, 1) * ELEMENT_TYPES[dtype].itemsize
        for start in range(0, len(data), step):
            counts.add(to_floats(data[start : start + step], dtype))
        progress.advance(_TASK, len(data))
    return counts.result(name, shape, digest.hexdigest())


class _Counts:
    """Adds up what is known of a tensor, some rows at a time."""

    def __init__(self, width: int) -> None:
        self.nans = self.infinities = self.zeros = self.constant_rows = 0
        self.total = self.squares = 0.0
        self.low, self.high = math.inf, -math.inf
        self.width = width
        self.lines = LineSums(width) if width > 1 else None

    def add(self, values: Floats) -> None:
        if self.width and len(values) % self.width:  # part of a row
            self.lines = None
        elif self.width > 1:
            rows = values.reshape(-1, self.width)
            # Most rows differ in their first two values already.
            like = rows[rows[:, 0] == rows[:, 1]]
            self.constant_rows += int((like == like[:, :1]).all(axis=1).sum())
        if not (np.isfinite(values.min()) and np.isfinite(values.max())):  # NaN passes through both
            values, self.lines = self._finite(values), None
        if len(values):
            self.zeros += len(values) - int(np.count_nonzero(values))
            self.low = min(self.low, float(values.min()))
            self.high = max(self.high, float(values.max()))
            wide = values.astype(np.float64)
            self.total += float(wide.sum())
            squares = np.square(wide, out=wide)
            lines = self.lines
            self.squares += lines.add(squares.reshape(-1, self.width)) if lines else float(squares.sum())

    def _finite(self, values: Floats) -> Floats:
        nans = int(np.isnan(values).sum())
        finite = values[np.isfinite(values)]
        self.nans += nans
        self.infinities += len(values) - len(finite) - nans
        return finite

    def result(self, name: str, shape: tuple[int, ...], digest: str) -> TensorStatistics:
        elements = math.prod(shape)
        count = elements - self.nans - self.infinities
        mean = self.total / count if count else math.nan
        std = math.sqrt(max(0.0, self.squares / count - mean * mean)) if count else math.nan
        counts = (self.nans, self.infinities, self.zeros, self.constant_rows)
        lines = self.lines.result() if self.lines and elements else Lines()
        return TensorStatistics(name, shape, elements, *counts, mean, std, self.low, self.high, digest, lines)
