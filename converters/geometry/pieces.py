"""Boxes of logical tensors in bytes of files, and what two of them have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from converters.formats.tensors import ELEMENT_TYPES, Span, StoredTensor, contiguous_strides
from converters.geometry.cells import Box, Slab


@dataclass(frozen=True)
class Piece:
    """A box of a logical tensor in a file.

    file: path or URL. tensor: the stored tensor it is part of. offset: byte of its first element in the file.
    strides: bytes per step along each axis of the logical tensor.
    """

    file: str
    tensor: str
    box: Box
    offset: int
    strides: tuple[int, ...]


def piece_of(slab: Slab, stored: StoredTensor | Span, file: str) -> Piece:
    """The slab in bytes, where `stored` is the tensor that it is a part of."""
    itemsize = ELEMENT_TYPES[stored.dtype].itemsize
    along = stored.strides if isinstance(stored, StoredTensor) else contiguous_strides(stored.shape)
    offset = stored.offset + itemsize * sum(base * step for base, step in zip(slab.base, along, strict=True))
    strides = tuple(itemsize * step * along[dim] for dim, step in slab.steps)
    return Piece(file, stored.name, slab.box, offset, strides)


def intersection(one: Box, other: Box) -> Box | None:
    """The box that two boxes share; None if they share no element."""
    shared = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(one, other, strict=True))
    return shared if all(start < stop for start, stop in shared) else None


def volume(box: Box) -> int:
    return math.prod(extents_of(box))


def offset_in(piece: Piece, box: Box) -> int:
    """The byte of a box's first element, the box lying within the piece."""
    return piece.offset + distance(piece.box, box, piece.strides)


def distance(outer: Box, inner: Box, strides: Sequence[int]) -> int:
    """Bytes from the first element of a box to that of one within it. strides: bytes per step of an axis."""
    corners = zip(outer, inner, strides, strict=True)
    return sum((start - first) * step for (first, _), (start, _), step in corners)


def extent_of(piece: Piece, box: Box, itemsize: int) -> tuple[int, int, bool]:
    """The range of the file that holds a box of the piece: offset, bytes, and whether it holds nothing else,
    and lies in the order of the box's first axis."""
    steps = zip(box, piece.strides, strict=True)
    levels = [(stop - start, step) for (start, stop), step in steps if stop - start > 1]
    length = itemsize + sum((extent - 1) * step for extent, step in levels)
    in_order = not levels or levels[0][1] == max(step for _, step in levels)
    return offset_in(piece, box), length, in_order and length == volume(box) * itemsize


@dataclass(frozen=True)
class Run:
    """One level of a strided copy: how often, and bytes from one to the next at the source and the target."""

    extent: int
    source: int
    target: int


def extents_of(box: Box) -> tuple[int, ...]:
    return tuple(stop - start for start, stop in box)


@lru_cache(maxsize=4096)  # the blocks of a tensor are alike
def runs(
    extents: tuple[int, ...], source: tuple[int, ...], target: tuple[int, ...], itemsize: int
) -> tuple[Run, ...]:
    """The loops of a copy between two strided arrays, outermost of the target first, the last over the bytes
    of an element; levels that continue each other on both sides are merged into one."""
    levels = [Run(extent, s, t) for extent, s, t in zip(extents, source, target, strict=True) if extent > 1]
    levels.sort(key=lambda run: -run.target)
    merged = [Run(itemsize, 1, 1)]
    for run in reversed(levels):
        inner = merged[-1]
        if run.source == inner.extent * inner.source and run.target == inner.extent * inner.target:
            merged[-1] = Run(inner.extent * run.extent, inner.source, inner.target)
        else:
            merged.append(run)
    return tuple(reversed(merged))
