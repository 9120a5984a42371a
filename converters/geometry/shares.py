"""Which part of a model each of several tensor-parallel ranks has, in whatever layout it is held."""

from __future__ import annotations

from converters.errors import UnsupportedError, UsageError
from converters.geometry.cells import Cell, Grid, cells_of_file
from converters.geometry.logical import Sizes
from converters.layouts.table import Choices, Layout, Row


def share_of(layout: Layout, choices: Choices, sizes: Sizes, rank: int, of: int) -> tuple[Cell, ...]:
    """The tensors that a rank holds of all layers: their names and shapes, and in their slabs which box of
    each logical tensor lies where in them. What no row cuts, every rank has whole (`replicated`).

    A vocabulary that the ranks do not divide is cut as torch.chunk cuts: the last ranks have fewer rows, or
    none. Of fewer key/value heads than ranks each is held by `of` / kv_heads ranks, which share its queries
    and have its keys and values whole.
    Raises UsageError for a rank that there is not, UnsupportedError, with both numbers, where a rank would
    get part of a head or an uneven part of something else.
    """
    if not 0 <= rank < of:
        raise UsageError(f"there is no rank {rank} of {of}", "rank", f"choose one from 0 to {of - 1}")
    rows = [row for row in layout.rows if row.applies(choices)]
    for row in rows:
        if row.split and not _divides(row, sizes, of):
            what = f"{of} ranks cannot share the {sizes[row.split]} {row.split} of {row.stored[0]}"
            raise UnsupportedError(what, "tp", "choose a number of ranks that divides them")
    one_stage = Grid(of, (range(sizes["layers"]),))
    return tuple(cells_of_file(rows, sizes, one_stage, rank, 0))


def _divides(row: Row, sizes: Sizes, of: int) -> bool:
    size = sizes[str(row.split)]
    if row.split == "kv_heads" and size < of:
        return of % size == 0 and sizes["q_per_kv"] % (of // size) == 0
    return row.split == "vocab" or size % of == 0
