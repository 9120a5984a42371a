"""Cut logical tensors into blocks: boxes that follow one another in canonical (row-major) order.

Blocks are small enough to stay in a processor's cache on their way from source to target.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from converters.formats.tensors import contiguous_strides
from converters.geometry.cells import Box
from converters.geometry.logical import axes_of
from converters.geometry.pieces import extents_of, volume

BLOCK = 1 << 20
"""Bytes of a block at most, but for heads that are kept whole."""

# Elements of a head that is kept whole: some layouts interleave its rotary halves, so that one half would be
# every other row.
_HEAD = 1 << 21


@dataclass(frozen=True)
class Block:
    """A box of a logical tensor, its elements in row-major order. strides: bytes per step of each axis."""

    logical: str
    box: Box
    nbytes: int
    strides: tuple[int, ...]


def block_of(logical: str, box: Box, itemsize: int) -> Block:
    strides = tuple(itemsize * step for step in contiguous_strides(extents_of(box)))
    return Block(logical, box, volume(box) * itemsize, strides)


def boxes_of(logical: str, box: Box, limit: int) -> Iterator[Box]:
    """Consecutive parts of a box of a logical tensor; none of an empty one. limit: elements of each, at
    most."""
    if not volume(box):
        return
    steps = _steps(logical, extents_of(box), limit)
    ranges = [range(start, stop, step) for (start, stop), step in zip(box, steps, strict=True)]
    for corner in itertools.product(*ranges):
        yield tuple(
            (start, min(start + step, stop))
            for start, step, (_, stop) in zip(corner, steps, box, strict=True)
        )


def _steps(logical: str, extents: Sequence[int], limit: int) -> list[int]:
    """How far a part reaches along each axis: all of inner ones, some of the next, one of outer ones."""
    axes = axes_of(logical)
    head = math.prod(extents[axes.index("halves") :]) if "halves" in axes else 0
    least = head if head <= _HEAD else 0
    steps, size = [1] * len(extents), 1
    for axis in reversed(range(len(extents))):
        steps[axis] = min(extents[axis], max(1, max(limit, least) // size))
        size *= extents[axis]
        if steps[axis] < extents[axis]:
            break
    return steps
