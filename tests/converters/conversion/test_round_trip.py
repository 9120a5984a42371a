"""There and back changes no byte, whatever the way."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

import converters
from tests.converters.bits import assert_same, assert_same_cells
from tests.converters.oracle import (
    BOTH,
    INTERNLM2,
    Variant,
    cells,
    expected,
    make_model,
    read_cells,
    read_hf,
    variant_of,
    write_original,
)

FAMILY = pytest.mark.parametrize("dims", BOTH, ids=lambda dims: dims.family)


@FAMILY
@pytest.mark.parametrize(("tp", "pp"), list(product([1, 4, 8], [1, 3])))
def test_hf_to_original_and_back_is_the_same_files(tmp_path, dims, tp, pp):
    src = write_original(tmp_path / "src", make_model(dims), dims, 2, (2, 1))
    converters.convert(src, tmp_path / "one", to="hf")
    converters.convert(tmp_path / "one", tmp_path / "grid", to="original", tp=tp, pp=pp)
    converters.convert(tmp_path / "grid", tmp_path / "two", to="hf")
    for file in (tmp_path / "one").glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    assert (tmp_path / "one" / "config.json").read_text() == (tmp_path / "two" / "config.json").read_text()


@FAMILY
def test_original_to_hf_and_back_is_the_same_tensors(tmp_path, dims):
    model = make_model(dims)
    src = write_original(tmp_path / "src", model, dims, 4, (2, 1))
    converters.convert(src, tmp_path / "hf", to="hf")
    converters.convert(tmp_path / "hf", tmp_path / "back", to="original", tp=4, pp=2)
    how = variant_of(tmp_path / "back", dims)
    assert_same_cells(read_cells(tmp_path / "back"), cells(model, dims, 4, (1, 2), how))


@pytest.mark.parametrize("adapt_hf", [True, False])
def test_a_long_way_round_ends_where_it_began(tmp_path, adapt_hf):
    dims = replace(INTERNLM2, dtype="float16")
    model = make_model(dims)
    at = write_original(tmp_path / "0", model, dims, 2, how=Variant(adapt_hf=adapt_hf))
    steps = [
        {"to": "original", "tp": 8, "pp": 3},
        {"to": "llama"},
        {"to": "original", "tp": 4, "pp": 2},
        {"to": "hf", "max_shard_size": "10KB"},
    ]
    for number, step in enumerate(steps, 1):
        converters.convert(at, tmp_path / str(number), **step)
        at = tmp_path / str(number)
    assert_same(read_hf(at), expected(model, dims, "hf"))
