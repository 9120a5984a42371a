"""From a layout's table to the stored tensors of one checkpoint: names, shapes, and what lies where in them.

A *cell* is one stored tensor of one rank and stage. Its *slabs* say, for every logical tensor it holds, which
box of it lies there and how a step along each of its axes moves through the stored dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.errors import UnsupportedError, parameter
from converters.geometry.logical import Sizes, axes_of
from converters.layouts.table import PARTS, Choices, Layout, Row

Box = tuple[tuple[int, int], ...]
"""Start and stop along every axis of a logical tensor."""

PAD = "`pad_vocab_to_multiple`"
_UNIT_OF_AXIS = {"kv_heads": "key/value heads", "vocab": "vocabulary entries", "inter": "rows of the MLP"}


@dataclass(frozen=True)
class Slab:
    """base: index, per stored dimension, of its first element. steps: per logical axis, the stored dimension
    it runs along and how many indices one step is."""

    logical: str
    box: Box
    base: tuple[int, ...]
    steps: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Cell:
    """spellings: the names it may have, the one that is written first. shape: of the stored tensor."""

    rank: int
    stage: int
    spellings: tuple[str, ...]
    shape: tuple[int, ...]
    slabs: tuple[Slab, ...]
    replicated: bool

    @property
    def name(self) -> str:
        return self.spellings[0]


@dataclass(frozen=True)
class Grid:
    """tp: tensor-parallel ranks. stages: the layers of each pipeline stage, consecutive."""

    tp: int
    stages: tuple[range, ...]

    @property
    def pp(self) -> int:
        return len(self.stages)

    @property
    def places(self) -> Iterator[tuple[int, int]]:
        """Every (rank, stage), stage by stage."""
        return ((rank, stage) for stage in range(self.pp) for rank in range(self.tp))


def uniform_stages(layers: int, pp: int) -> tuple[range, ...]:
    """Layers per stage as InternEvo cuts them: the last stages take what is left over.

    Fact: partition_uniform of internlm/solver/pipeline_utils.py.
    Raises UnsupportedError if pp exceeds the number of layers.
    """
    if pp > layers:
        raise UnsupportedError(f"pipeline size {pp} exceeds the model's {layers} layers", "`pp`")
    least, left = divmod(layers, pp)
    stages, start = [], 0
    for stage in range(pp):
        stop = start + least + (stage >= pp - left)
        stages.append(range(start, stop))
        start = stop
    return tuple(stages)


def uneven(layout: Layout, choices: Choices, sizes: Sizes, tp: int) -> Row | None:
    """A row of which a rank would get part of a head or an uneven share."""
    rows = (row for row in layout.rows if row.applies(choices) and row.split)
    return next((row for row in rows if sizes[str(row.split)] % tp), None)


def check_divisible(
    layout: Layout, choices: Choices, sizes: Sizes, tp: int, where: str | Path, *, padding: bool = False
) -> None:
    """Raises UnsupportedError, with both numbers, if tp does not divide what it has to. padding: whether
    the vocabulary may be made longer."""
    row = uneven(layout, choices, sizes, tp)
    if row is not None and row.split:
        longer = (
            f", or pad it with {parameter('pad_vocab_to_multiple', tp)}"
            if padding and row.split == "vocab"
            else ""
        )
        unit = _UNIT_OF_AXIS.get(row.split, f"{row.split} dimensions")
        raise UnsupportedError(
            f"tensor-parallel size {tp} does not divide the {sizes[row.split]} {unit} "
            f"that {row.stored[0]} is cut along",
            where,
            f"choose a tensor-parallel size that divides {sizes[row.split]}{longer}",
        )


def cells(layout: Layout, choices: Choices, sizes: Sizes, grid: Grid) -> Iterator[Cell]:
    """Every stored tensor of a checkpoint, file by file in the order of the table, layer by layer."""
    rows = [row for row in layout.rows if row.applies(choices)]
    for rank, stage in grid.places:
        yield from cells_of_file(rows, sizes, grid, rank, stage)


def cells_of_file(rows: Sequence[Row], sizes: Sizes, grid: Grid, rank: int, stage: int) -> Iterator[Cell]:
    """The stored tensors of one rank and stage."""
    by_place = {place: [row for row in rows if row.place == place] for place in ("first", "layer", "last")}
    if stage == 0:
        yield from (_cell(row, sizes, grid.tp, (rank, stage)) for row in by_place["first"])
    for local, layer in enumerate(grid.stages[stage]):
        yield from (_cell(row, sizes, grid.tp, (rank, stage), local, layer) for row in by_place["layer"])
    if stage == grid.pp - 1:
        yield from (_cell(row, sizes, grid.tp, (rank, stage)) for row in by_place["last"])


def _cell(row: Row, sizes: Sizes, tp: int, place: tuple[int, int], local: int = 0, layer: int = 0) -> Cell:
    extents = {axis: (0, size) for axis, size in sizes.items()} | _portion(row, sizes, place[0], tp)
    shape, slabs = _arrange(row, {axis: stop - start for axis, (start, stop) in extents.items()})
    return Cell(
        *place,
        tuple(name.replace(".N.", f".{local}.") for name in row.stored),
        shape,
        tuple(
            Slab(holds.replace(".N.", f".{layer}."), tuple(extents[a] for a in axes_of(holds)), base, steps)
            for holds, (base, steps) in zip(row.holds, slabs, strict=True)
        ),
        replicated=row.split is None and tp > 1,
    )


def _portion(row: Row, sizes: Sizes, rank: int, of: int) -> dict[str, tuple[int, int]]:
    """Start and stop of what a rank has of the axis that is cut, in parts as torch.chunk makes them. Of fewer
    key/value heads than ranks each is held whole by several ranks, which have parts of its queries."""
    if row.split is None:
        return {}
    if row.split != "kv_heads" or sizes["kv_heads"] >= of:
        return {row.split: _part(sizes[row.split], rank, of)}
    sharing = of // sizes["kv_heads"]
    head, number = divmod(rank, sharing)
    return {"kv_heads": (head, head + 1), "q_per_kv": _part(sizes["q_per_kv"], number, sharing)}


def _part(size: int, number: int, of: int) -> tuple[int, int]:
    step = -(-size // of)
    return min(number * step, size), min((number + 1) * step, size)


_Arrangement = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]


def _arrange(row: Row, here: Sizes) -> tuple[tuple[int, ...], list[_Arrangement]]:
    """Shape of the stored tensor; base and steps of each logical tensor in it."""
    dims = [_dimension(dim, row.holds, here) for dim in row.dims]
    slabs = []
    for number, logical in enumerate(row.holds):
        bases = tuple(dim.bases[number] for dim in dims)
        where = {axis: (d, step) for d, dim in enumerate(dims) for axis, step in dim.steps[number].items()}
        slabs.append((bases, tuple(where[axis] for axis in axes_of(logical))))
    return tuple(dim.size for dim in dims), slabs


@dataclass(frozen=True)
class _Dimension:
    size: int
    bases: tuple[int, ...]
    steps: tuple[dict[str, int], ...]


def _dimension(names: tuple[str, ...], holds: tuple[str, ...], here: Sizes) -> _Dimension:
    """One stored dimension: the axes flattened into it, and where each part begins."""
    at = names.index(PARTS) if PARTS in names else 0
    outer, inner = names[:at], names[at + 1 :] if PARTS in names else names
    inners = [[axis for axis in inner if axis in axes_of(logical)] for logical in holds]
    lengths = [math.prod(here[axis] for axis in axes) for axes in inners]
    total = sum(lengths) if PARTS in names else lengths[0]
    bases = tuple(sum(lengths[:n]) if PARTS in names else 0 for n in range(len(holds)))
    steps = tuple({**_row_major(axes, here, 1), **_row_major(outer, here, total)} for axes in inners)
    return _Dimension(total * math.prod(here[axis] for axis in outer), bases, steps)


def _row_major(axes: Sequence[str], here: Sizes, unit: int) -> dict[str, int]:
    steps = {}
    for axis in reversed(axes):
        steps[axis] = unit
        unit *= here[axis]
    return steps
