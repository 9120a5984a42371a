"""Cut target tensors into blocks: contiguous ranges of target bytes, each a box of one logical tensor.

Blocks are small enough to stay in a processor's cache on their way from source to target.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from converters.cells import Cell
from converters.formats.tensors import ELEMENT_TYPES, Span
from converters.gather import Block
from converters.pieces import Piece, offset_in, piece_of, volume

BLOCK = 1 << 20
"""Bytes of a block at most, unless a single innermost run is longer."""


def blocks_of(cell: Cell, span: Span, limit: int = BLOCK) -> list[Block]:
    """The blocks of one target tensor, in the order of its bytes; together they are all of it."""
    itemsize = ELEMENT_TYPES[span.dtype].itemsize
    blocks = [
        block
        for slab in cell.slabs
        for block in _cut(slab.logical, piece_of(slab, span, span.name), itemsize, limit)
    ]
    return sorted(blocks, key=lambda block: block.offset)


def _cut(logical: str, piece: Piece, itemsize: int, limit: int) -> Iterator[Block]:
    steps = _steps(piece, itemsize, limit)
    outermost_first = sorted(range(len(steps)), key=lambda axis: -piece.strides[axis])
    ranges = [range(*piece.box[axis], steps[axis]) for axis in outermost_first]
    for starts in itertools.product(*ranges):
        corner = dict(zip(outermost_first, starts, strict=True))
        box = tuple(
            (corner[axis], min(corner[axis] + steps[axis], stop)) for axis, (_, stop) in enumerate(piece.box)
        )
        yield Block(logical, box, offset_in(piece, box), volume(box) * itemsize, piece.strides)


def _steps(piece: Piece, itemsize: int, limit: int) -> list[int]:
    """How far a block reaches along each axis: all of the inner ones, some of the next, one of the outer
    ones.
    """
    extents = [stop - start for start, stop in piece.box]
    steps = [1] * len(extents)
    size = itemsize
    for axis in sorted(range(len(extents)), key=lambda axis: (piece.strides[axis], extents[axis])):
        if extents[axis] == 1:
            continue
        if piece.strides[axis] != size:
            break
        steps[axis] = min(extents[axis], max(1, limit // size))
        size *= extents[axis]
        if steps[axis] < extents[axis]:
            break
    return steps
