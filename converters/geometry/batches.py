"""Groups what is written in one go: logical tensors that share target tensors, with all of those.

So every byte of the source is read once, also where it is cut into many ranks' files or fused with others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from converters.formats.tensors import Span
from converters.geometry.cells import Box, Cell
from converters.geometry.pieces import Piece, piece_of


@dataclass(frozen=True)
class Place:
    """Where a target tensor goes. file: its name."""

    file: str
    cell: Cell
    span: Span


@dataclass(frozen=True)
class Batch:
    """tensors: logical names. places: every target tensor that holds some of them, and nothing else."""

    tensors: tuple[str, ...]
    places: tuple[Place, ...]

    def pieces(self, name: str) -> tuple[tuple[Place, Piece], ...]:
        """Where the parts of a logical tensor go, in bytes of the target files."""
        return tuple(
            (place, piece_of(slab, place.span, place.file))
            for place in self.places
            for slab in place.cell.slabs
            if slab.logical == name
        )

    def box_of(self, name: str) -> Box:
        """The least box that holds all parts of a logical tensor that go anywhere."""
        boxes = [piece.box for _, piece in self.pieces(name)]
        return tuple((min(a for a, _ in axis), max(b for _, b in axis)) for axis in zip(*boxes, strict=True))


def batches_of(places: Iterable[Place]) -> tuple[Batch, ...]:
    """The smallest batches, in the order in which the places come."""
    groups: dict[str, tuple[dict[str, None], list[Place]]] = {}
    for place in places:
        names = dict.fromkeys(slab.logical for slab in place.cell.slabs)
        tensors, members = groups.get(next(iter(names)), ({}, []))
        for name in names:
            other_tensors, other_members = groups.get(name, ({name: None}, []))
            if other_tensors is not tensors:
                tensors |= other_tensors
                members += other_members
        members.append(place)
        groups |= dict.fromkeys(tensors, (tensors, members))
    found = {id(group): group for group in groups.values()}
    return tuple(Batch(tuple(tensors), tuple(members)) for tensors, members in found.values())
