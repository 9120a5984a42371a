"""Writes a checkpoint of random weights in any format, straight from that format's table.

No conversion is involved: every stored tensor is drawn for itself, by its name and place, so that a
conversion has something to prove itself on. Same layout, sizes and grid: same bytes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.config import facts as fact_tables
from converters.config.facts import GIVEN, Fact
from converters.containers.container import Extras
from converters.formats.tensors import FileLayout, TensorSpec
from converters.geometry.cells import Cell, Grid, cells_of_file
from converters.layouts.llama import REWARD_READS
from converters.layouts.table import Layout

# Element type -> its 16 bits of float32 values: the upper half of a float32 is the bfloat16 next to it
# towards zero.
_BITS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "BF16": lambda values: (values.view(np.uint32) >> 16).astype("<u2"),
    "F16": lambda values: values.astype("<f2"),
}


@dataclass(frozen=True)
class Blueprint:
    """facts: what its config says, by fact name. sizes: extent of every axis. choices: of the layout. dtype:
    of its elements, BF16 or F16."""

    layout: Layout
    facts: Mapping[str, Any]
    sizes: Mapping[str, int]
    choices: Mapping[str, object]
    grid: Grid
    dtype: str = "BF16"


def write_random(blueprint: Blueprint, target: Path) -> None:
    """Weights and config of a checkpoint, into a directory that exists. Values are such that a signal keeps
    its size through every layer."""
    layout = blueprint.layout
    facts = {name: Fact(value, GIVEN) for name, value in {**blueprint.facts, **blueprint.choices}.items()}
    told = facts.keys() & layout.reads.keys() & REWARD_READS.keys()
    config = fact_tables.write(layout, facts) | {key: facts[key].value for key in told}
    rows = [row for row in layout.rows if row.applies(blueprint.choices)]
    grid = blueprint.grid
    held = {place: list(cells_of_file(rows, blueprint.sizes, grid, *place)) for place in grid.places}
    parts = {
        place: [TensorSpec(cell.name, blueprint.dtype, cell.shape) for cell in cells]
        for place, cells in held.items()
    }
    files = layout.container.files(parts, Extras(config))
    layout.container.write_config(target, config, files)
    for file in files:
        _write(target / file.name, file.layout, held[file.place], blueprint.dtype)


def _write(path: Path, layout: FileLayout, held: Sequence[Cell], dtype: str) -> None:
    cells = {cell.name: cell for cell in held}
    content, crcs = bytearray(layout.size), {}
    for span in layout.spans:
        data = _BITS[dtype](_draw(cells[span.name])).tobytes()
        content[span.offset : span.offset + span.nbytes] = data
        crcs[span.name] = zlib.crc32(data)
    for offset, data in layout.fixed + layout.finalize(crcs):
        content[offset : offset + len(data)] = data
    path.write_bytes(content)


def _draw(cell: Cell) -> np.ndarray:
    """float32 values, uniform with variance 1 over the row's length; norms and biases near 1 and 0.

    What every rank holds alike is drawn without the rank."""
    place = (0 if cell.replicated else cell.rank, cell.stage)
    random = np.random.default_rng([zlib.crc32(cell.name.encode()), *place])
    vector = len(cell.shape) == 1
    width = 0.1 if vector else math.sqrt(3 / cell.shape[-1])
    values = random.random(cell.shape, np.float32) * (2 * width) - width
    if vector and not cell.name.endswith("bias"):
        values += 1
    return values
