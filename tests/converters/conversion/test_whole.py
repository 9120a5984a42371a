"""What no checkpoint leads to is noticed all the same: a plan or a source with a hole in it."""

from __future__ import annotations

from dataclasses import replace

import pytest

import converters
from converters.errors import IntegrityError
from converters.progress import NullProgress
from converters.sinks.files import write_files
from converters.source.gather import Sources
from converters.streaming.stream import Stream
from tests.converters.oracle import INTERNLM2, make_model, write_original

WQKV = "model.layers.0.attention.wqkv.weight"


@pytest.fixture
def source(tmp_path):
    return converters.open_checkpoint(write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, 2))


def write(plan, folder):
    folder.mkdir()
    with Sources(plan.source.folder) as files:
        write_files(plan, Stream(plan.source, files, frozenset()), folder, 1, False, NullProgress())


def test_a_target_tensor_that_nobody_fills_stops_the_run(tmp_path, source):
    plan = converters.plan_conversion(source, converters.ConversionOptions("hf"))
    (file,) = plan.files
    cell = file.cells[WQKV]
    holed = replace(file, cells={**file.cells, WQKV: replace(cell, slabs=cell.slabs[:-1])})
    with pytest.raises(IntegrityError, match=rf"{WQKV} would be written with \d+ bytes missing"):
        write(replace(plan, files=(holed,)), tmp_path / "dst")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_source_that_holds_too_little_or_too_much_of_a_tensor_stops_the_run(tmp_path, source, count):
    name = "layers.1.mlp.down.weight"
    tensor = source.tensors[name]
    holed = replace(tensor, pieces=(tensor.pieces * 2)[:count])
    plan = converters.plan_conversion(
        replace(source, tensors={**source.tensors, name: holed}), converters.ConversionOptions("hf")
    )
    with pytest.raises(IntegrityError, match=r"of \d+ bytes of a block have a source"):
        write(plan, tmp_path / "dst")
