"""Stretches of files that make up a box of a logical tensor."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from converters.geometry.blocks import Block
from converters.geometry.pieces import Piece, distance, extents_of, intersection, offset_in, runs


@dataclass(frozen=True)
class Stretch:
    """Bytes that follow one another both in a file, from offset on, and in the target, from start on."""

    file: str
    offset: int
    start: int
    nbytes: int


def stretches_of(block: Block, pieces: Sequence[Piece], itemsize: int, least: int) -> list[Stretch] | None:
    """All of a block, in order; None where one has fewer bytes than `least`, or the pieces do not cover it
    exactly once."""
    found: list[Stretch] = []
    for piece in pieces:
        some = _shared(block, piece, itemsize, least)
        if some is None:
            return None
        found += some
    found.sort(key=lambda stretch: stretch.start)
    ends = [0, *itertools.accumulate(stretch.nbytes for stretch in found)]
    return found if ends == [*(stretch.start for stretch in found), block.nbytes] else None


def _shared(block: Block, piece: Piece, itemsize: int, least: int) -> list[Stretch] | None:
    shared = intersection(block.box, piece.box)
    if shared is None:
        return []
    *outer, last = runs(extents_of(shared), piece.strides, block.strides, itemsize)
    if last.extent < least:
        return None
    offset, start = offset_in(piece, shared), distance(block.box, shared, block.strides)
    steps: Iterator[tuple[int, ...]] = itertools.product(*(range(run.extent) for run in outer))
    return [
        Stretch(
            piece.file,
            offset + sum(n * run.source for n, run in zip(step, outer, strict=True)),
            start + sum(n * run.target for n, run in zip(step, outer, strict=True)),
            last.extent,
        )
        for step in steps
    ]
