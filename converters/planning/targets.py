"""The files of weights that a target consists of, each laid out before a byte is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from converters.config.facts import dtype_name
from converters.containers.container import Extras, WeightFile
from converters.errors import UnsupportedError, parameter
from converters.formats.tensors import TensorSpec
from converters.geometry.cells import Cell, Grid, cells_of_file
from converters.layouts.table import Choices, Layout
from converters.source.checkpoint import Checkpoint


@dataclass(frozen=True)
class TargetFile(WeightFile):
    """cells: by stored name."""

    cells: Mapping[str, Cell] = field(default_factory=dict)


def files_of(
    layout: Layout,
    choices: Choices,
    source: Checkpoint,
    grid: Grid,
    elements: Mapping[str, str],
    extras: Extras,
) -> tuple[TargetFile, ...]:
    """The files of a target. elements: of logical tensors that pass as another type than they are stored in.

    Raises UnsupportedError for element types that the container does not hold.
    """
    rows = [row for row in layout.rows if row.applies(choices)]
    held = {place: list(cells_of_file(rows, source.sizes, grid, *place)) for place in grid.places}
    parts = {place: [spec_of(source, elements, cell) for cell in cells] for place, cells in held.items()}
    named = {place: {cell.name: cell for cell in cells} for place, cells in held.items()}
    return tuple(
        TargetFile(
            file.name,
            file.layout,
            file.place,
            {span.name: named[file.place][span.name] for span in file.layout.spans},
        )
        for file in layout.container.files(parts, extras)
    )


def spec_of(source: Checkpoint, elements: Mapping[str, str], cell: Cell) -> TensorSpec:
    """Raises UnsupportedError where tensors of several types would become one."""
    names = [slab.logical for slab in cell.slabs]
    codes = {elements.get(name, source.tensors[name].dtype): name for name in names}
    if len(codes) > 1:
        held = " and ".join(f"{name} is {dtype_name(code)}" for code, name in codes.items())
        what = f"{cell.name} is one tensor, of one element type: {held}"
        fix = f"make them one with {parameter('dtype', dtype_name(source.dtype))}"
        raise UnsupportedError(what, source.path, fix)
    return TensorSpec(cell.name, next(iter(codes)), cell.shape)
