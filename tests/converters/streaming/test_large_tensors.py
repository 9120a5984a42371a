"""Tensors of several blocks, which the other tests' models are too small to have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import converters
from tests.converters.bits import assert_same, assert_same_cells, to_bits, to_torch
from tests.converters.oracle import (
    Dims,
    Variant,
    cells,
    expected,
    make_model,
    read_cells,
    read_hf,
    variant_of,
    write_hf,
    write_original,
)

# Matrices of 1 to 3 MB, of which none is a whole number of blocks; keys are a small part of a fused tensor.
WIDE = Dims("internlm", layers=1, hidden=1000, heads=4, kv_heads=4, inter=1300, vocab=1100)
GROUPED = Dims("internlm2", layers=1, hidden=1200, heads=12, kv_heads=4, inter=1300, vocab=1100)
FAMILY = pytest.mark.parametrize("dims", [WIDE, GROUPED], ids=lambda dims: dims.family)
INTERLEAVED = Variant(adapt_hf=False, embed_split_hidden=False)


@FAMILY
@pytest.mark.parametrize("names", ["hf", "llama"])
@pytest.mark.parametrize("storage", ["own", "transposed"])
def test_an_original_checkpoint_becomes_the_whole_model(tmp_path, dims, names, storage):
    model, how = make_model(dims), replace(INTERLEAVED, storage=storage)
    src = write_original(tmp_path / "src", model, dims, 4, how=how)
    report = converters.convert(src, tmp_path / "dst", to=names)
    assert_same(read_hf(tmp_path / "dst"), expected(model, dims, names))
    assert report.fingerprints == converters.fingerprint(src)


@FAMILY
@pytest.mark.parametrize("tp", [2, 4])
def test_hf_is_cut_into_a_grid(tmp_path, dims, tp):
    model = make_model(dims)
    src = write_hf(tmp_path / "src", model, dims)
    given = {} if dims.family == "internlm" else {"adapt_hf": False}
    converters.convert(src, tmp_path / "dst", to="original", tp=tp, given=given)
    assert_same_cells(
        read_cells(tmp_path / "dst"), cells(model, dims, tp, how=variant_of(tmp_path / "dst", dims))
    )


@FAMILY
def test_a_grid_is_cut_anew(tmp_path, dims):
    model = make_model(dims)
    src = write_original(tmp_path / "src", model, dims, 4, how=INTERLEAVED)
    converters.convert(src, tmp_path / "dst", to="original", tp=2)
    assert_same_cells(
        read_cells(tmp_path / "dst"), cells(model, dims, 2, how=variant_of(tmp_path / "dst", dims))
    )


@pytest.fixture
def pair(tmp_path):
    """Write a model beside a changed one."""

    def write(change, dtype="bfloat16"):
        dims = replace(WIDE, dtype=dtype)
        changed = {name: array.copy() for name, array in make_model(dims).items()}
        change(changed)
        one = write_hf(tmp_path / "one", make_model(dims), dims)
        return converters.compare(one, write_hf(tmp_path / "other", changed, dims))

    return write


GATE = "model.layers.0.mlp.gate_proj.weight"


def test_a_difference_in_a_later_block_is_found_where_it_is(pair):
    def change(model):
        model[GATE][1234, 567] ^= 1

    found = pair(change)
    assert found.first.tensor == "layers.0.mlp.gate.weight"
    assert found.first.index == (1234, 567)


def test_of_differences_in_several_blocks_the_first_is_named_and_the_largest_measured(pair):
    def change(model):
        model[GATE][3, 5] = 0x3F80  # 1.0
        model[GATE][1299, 999] ^= 1

    value = float(to_torch(make_model(WIDE)[GATE], "bfloat16")[3, 5])
    found = pair(change)
    assert found.verdict == "different"
    assert found.first.index == (3, 5)
    assert found.first.values == (value, 1.0)
    assert found.max_error == np.abs(np.float32(value) - np.float32(1))


def test_one_value_that_is_not_rounded_makes_it_different(tmp_path):
    """The tensors before it are rounded, and so are the other blocks of its own."""
    wide = make_model(replace(WIDE, dtype="float32"))
    narrow = {name: to_bits(to_torch(array, "float32").bfloat16()) for name, array in wide.items()}
    narrow[GATE][700, 7] += np.uint16(1)
    one = write_hf(tmp_path / "one", wide, replace(WIDE, dtype="float32"))
    found = converters.compare(one, write_hf(tmp_path / "other", narrow, WIDE))
    assert found.verdict == "different"
    assert found.first.tensor == "layers.0.mlp.gate.weight"
