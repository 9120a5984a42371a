"""Put a block of a logical tensor into the target tensors that hold parts of it: the inverse of gather."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from converters.formats.tensors import ELEMENT_TYPES
from converters.geometry.batches import Batch, Place
from converters.geometry.blocks import Block
from converters.geometry.pieces import Piece, Run, distance, extents_of, intersection, offset_in, runs
from converters.source.gather import Bytes, copy_strided
from converters.streaming.stream import Stream

Part = tuple[Place, int, memoryview]
"""What a place gets: at which offset of its file, and the bytes."""


def spread(batch: Batch, name: str, stream: Stream) -> Iterator[tuple[Bytes, Iterator[Part]]]:
    """A logical tensor of the batch, read once: its bytes block by block, and what each place gets."""
    pieces, itemsize = batch.pieces(name), ELEMENT_TYPES[stream.dtype_of(name)].itemsize
    for block, data in stream.read(name, batch.box_of(name)):
        parts = (
            (place, offset, part)
            for place, piece in pieces
            for offset, part in scatter(block, data, piece, itemsize)
        )
        yield data, parts


def scatter(block: Block, data: Bytes, piece: Piece, itemsize: int) -> Iterator[tuple[int, memoryview]]:
    """What a piece of a target file gets of a block: (offset in the file, bytes); nothing if it has no share
    in it."""
    shared = intersection(block.box, piece.box)
    if shared is None:
        return
    start = distance(block.box, shared, block.strides)
    apart, joined = _split(runs(extents_of(shared), block.strides, piece.strides, itemsize))
    offset = offset_in(piece, shared)
    for index in itertools.product(*(range(run.extent) for run in apart)):
        source = start + sum(n * run.source for n, run in zip(index, apart, strict=True))
        target = offset + sum(n * run.target for n, run in zip(index, apart, strict=True))
        yield target, _joined(data[source:], joined, itemsize)


def _split(levels: Sequence[Run]) -> tuple[Sequence[Run], Sequence[Run]]:
    """The outer levels, which leave gaps at the target, and the inner ones, which leave none."""
    size, n = 1, len(levels)
    while n and levels[n - 1].target == size:
        size *= levels[n - 1].extent
        n -= 1
    return levels[:n], levels[n:]


def _joined(data: Bytes, levels: Sequence[Run], itemsize: int) -> memoryview:
    length = levels[0].extent * levels[0].target
    if len(levels) == 1 and levels[0].source == 1:
        return data.data[:length]
    out = np.empty(length, np.uint8)
    copy_strided(data, levels, itemsize, out)
    return out.data
