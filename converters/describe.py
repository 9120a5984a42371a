"""A plan in words: what would be written, and of which stored tensors it is made."""

from __future__ import annotations

from dataclasses import dataclass

from converters.logical import pattern_of
from converters.plan import Plan


@dataclass(frozen=True)
class Line:
    """Target tensors that differ only in their layer's number. count: how many. sources: stored names, N for
    the number. files: of how many source files each is made. nbytes: of all of them."""

    target: str
    shape: tuple[int, ...]
    count: int
    sources: tuple[str, ...]
    files: int
    nbytes: int


def describe(plan: Plan) -> tuple[Line, ...]:
    """One line per kind of target tensor, in the order they are first written."""
    lines: dict[tuple[str, tuple[int, ...]], Line] = {}
    for file in plan.files:
        sizes = {span.name: span.nbytes for span in file.layout.spans}
        for cell in file.cells.values():
            key = (pattern_of(cell.name), cell.shape)
            pieces = [piece for slab in cell.slabs for piece in plan.source.tensors[slab.logical].pieces]
            before = lines.get(key)
            lines[key] = Line(
                *key,
                count=(before.count if before else 0) + 1,
                sources=tuple(dict.fromkeys(pattern_of(piece.tensor) for piece in pieces)),
                files=max(before.files if before else 0, len({piece.file for piece in pieces})),
                nbytes=(before.nbytes if before else 0) + sizes[cell.name],
            )
    return tuple(lines.values())
