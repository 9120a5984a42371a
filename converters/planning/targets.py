"""The files of weights that a target consists of, each laid out before a byte is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from converters.config.facts import dtype_name
from converters.errors import UnsupportedError
from converters.formats import gguf, safetensors, shards, torchzip
from converters.formats.shards import Shard
from converters.formats.tensors import FileLayout, TensorSpec
from converters.geometry.cells import Cell, Grid, cells_of_file
from converters.layouts.table import GGUF, Choices, Layout
from converters.source.checkpoint import Checkpoint

GGUF_FILE = "model.gguf"


@dataclass(frozen=True)
class TargetFile:
    """A file of weights to be written. cells: by stored name."""

    name: str
    layout: FileLayout
    cells: Mapping[str, Cell]


def files_of(
    layout: Layout,
    choices: Choices,
    source: Checkpoint,
    grid: Grid,
    elements: Mapping[str, str],
    *,
    max_shard_size: str | int,
    header: Mapping[str, Any],
    quantise: bool,
) -> tuple[tuple[TargetFile, ...], tuple[Shard, ...]]:
    """The files of a target, and how they are split where that is written down.

    elements: of logical tensors that pass as another type than they are stored in. header, quantise: of a
    GGUF file. Raises UnsupportedError for element types that the container does not hold.
    """
    rows = [row for row in layout.rows if row.applies(choices)]
    specify = partial(spec_of, source, elements)
    if layout.grid:
        return tuple(
            _original_file(rank, stage, list(cells_of_file(rows, source.sizes, grid, rank, stage)), specify)
            for rank, stage in grid.places
        ), ()
    by_name = {cell.name: cell for cell in cells_of_file(rows, source.sizes, grid, 0, 0)}
    if layout.container == GGUF:
        file = gguf.layout(map(specify, by_name.values()), header, quantise=quantise)
        return (TargetFile(GGUF_FILE, file, by_name),), ()
    parts = shards.split(map(specify, by_name.values()), max_shard_size)
    files = tuple(
        TargetFile(
            part.file,
            safetensors.layout(part.tensors),
            {spec.name: by_name[spec.name] for spec in part.tensors},
        )
        for part in parts
    )
    return files, parts


def _original_file(
    rank: int, stage: int, held: list[Cell], specify: Callable[[Cell], TensorSpec]
) -> TargetFile:
    specs = [specify(cell) for cell in held]
    return TargetFile(
        f"model_tp{rank}_pp{stage}.pt", torchzip.layout(specs), {cell.name: cell for cell in held}
    )


def spec_of(source: Checkpoint, elements: Mapping[str, str], cell: Cell) -> TensorSpec:
    """Raises UnsupportedError where tensors of several types would become one."""
    names = [slab.logical for slab in cell.slabs]
    codes = {elements.get(name, source.tensors[name].dtype): name for name in names}
    if len(codes) > 1:
        held = " and ".join(f"{name} is {dtype_name(code)}" for code, name in codes.items())
        raise UnsupportedError(
            f"{cell.name} is one tensor, of one element type: {held}",
            source.path,
            f"make them one with --dtype {dtype_name(source.dtype)}",
        )
    return TensorSpec(cell.name, next(iter(codes)), cell.shape)
