"""For any family, head grouping, dtype and grid: the files are the oracle's, tensor by tensor."""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import converters
from tests.converters.bits import assert_same, assert_same_cells, rounded
from tests.converters.oracle import (
    Dims,
    Variant,
    cells,
    expected,
    make_model,
    read_cells,
    read_hf,
    stages_of,
    variant_of,
    write_hf,
    write_original,
)

TP = (1, 2, 4, 8)
PP = (1, 2, 4)
DTYPES = ("bfloat16", "float16", "float32")
QUICK = settings(max_examples=40)
MANY = settings(max_examples=150)


@dataclass(frozen=True)
class Case:
    """A model, the grid it is stored in, and the grid and dtype that are asked for."""

    dims: Dims
    how: Variant
    tp: int
    stages: tuple[int, ...]
    new_tp: int
    new_pp: int
    new_dtype: str
    seed: int

    @property
    def model(self):
        return make_model(self.dims, self.seed)

    @property
    def wanted(self):
        return rounded(self.model, self.dims.dtype, self.new_dtype)


@st.composite
def cases(draw):
    family = draw(st.sampled_from(["internlm", "internlm2"]))
    kv_heads = draw(st.sampled_from([1, 2, 3, 4, 6, 8]))
    per_group = 1 if family == "internlm" else draw(st.sampled_from([1, 2, 4]))
    heads, head_dim = kv_heads * per_group, draw(st.sampled_from([2, 6, 8]))
    hidden = heads * head_dim
    tps = [tp for tp in TP if kv_heads % tp == 0]
    tp, new_tp = draw(st.sampled_from(tps)), draw(st.sampled_from(tps))
    # Wider than the hidden size times any tp, so that up and down projections never look alike.
    inter = hidden * 8 + 8 * draw(st.integers(1, 3))
    layers = draw(st.integers(1, 5))
    dims = Dims(
        family=family,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        inter=inter,
        vocab=8 * draw(st.integers(1, 6)),
        dtype=draw(st.sampled_from(DTYPES)),
        rope_base=draw(st.sampled_from([10000, 1000000])),
    )
    pps = [pp for pp in PP if pp <= layers]
    pp, new_pp = draw(st.sampled_from(pps)), draw(st.sampled_from(pps))
    cuts = sorted(
        draw(st.sets(st.integers(1, layers - 1), min_size=pp - 1, max_size=pp - 1)) if pp > 1 else []
    )
    stages = tuple(b - a for a, b in zip([0, *cuts], [*cuts, layers], strict=True))
    how = Variant(
        embed_split_hidden=draw(st.booleans()),
        w2_is_up=draw(st.booleans()),
        adapt_hf=draw(st.booleans()),
        fused=draw(st.booleans()),
        prefix=draw(st.sampled_from(["", "model."])),
        inv_freq=draw(st.booleans()),
        storage=draw(st.sampled_from(["own", "transposed", "shared", "padded"])),
    )
    new_dtype = draw(st.sampled_from(["keep", "keep", *DTYPES]))
    return Case(dims, how, tp, stages, new_tp, new_pp, new_dtype, draw(st.integers(0, 2**16)))


def original_to_hf(case: Case, names: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        src = write_original(folder / "src", case.model, case.dims, case.tp, case.stages, case.how)
        converters.convert(src, folder / "dst", to=names, dtype=case.new_dtype)
        assert_same(read_hf(folder / "dst"), expected(case.wanted, case.dims, names))


def assert_written(dst: Path, case: Case) -> None:
    """The oracle's cells, each file a sound archive that holds its own bytes and no others."""
    stages = stages_of(case.dims.layers, case.new_pp)
    wanted = cells(case.wanted, case.dims, case.new_tp, stages, variant_of(dst, case.dims))
    assert_same_cells(read_cells(dst), wanted)
    for (t, p), state in wanted.items():
        with zipfile.ZipFile(dst / f"model_tp{t}_pp{p}.pt") as archive:
            assert archive.testzip() is None
            stored = sum(entry.file_size for entry in archive.infolist() if "/data/" in entry.filename)
        assert stored == sum(array.nbytes for array in state.values())
        mapped = torch.load(dst / f"model_tp{t}_pp{p}.pt", weights_only=True, mmap=True)
        assert sorted(mapped) == sorted(state)


def hf_to_original(case: Case, names: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if names == "hf":
            src = write_hf(folder / "src", case.model, case.dims)
        else:
            src = folder / "src"
            original = write_original(folder / "first", case.model, case.dims, case.tp, case.stages, case.how)
            converters.convert(original, src, to="llama")
        grid: dict[str, Any] = {"tp": case.new_tp, "pp": case.new_pp, "dtype": case.new_dtype}
        converters.convert(src, folder / "dst", to="original", **grid)
        assert_written(folder / "dst", case)


def original_to_original(case: Case) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        src = write_original(folder / "src", case.model, case.dims, case.tp, case.stages, case.how)
        grid: dict[str, Any] = {"tp": case.new_tp, "pp": case.new_pp, "dtype": case.new_dtype}
        converters.convert(src, folder / "dst", to="original", **grid)
        assert_written(folder / "dst", case)


@QUICK
@given(cases(), st.sampled_from(["hf", "llama"]))
def test_any_original_checkpoint_becomes_the_whole_model(case, names):
    original_to_hf(case, names)


@QUICK
@given(cases(), st.sampled_from(["hf", "llama"]))
def test_any_hf_checkpoint_is_cut_into_any_grid(case, names):
    hf_to_original(case, names)


@QUICK
@given(cases())
def test_any_grid_is_cut_anew_into_any_other(case):
    original_to_original(case)


@pytest.mark.slow
@MANY
@given(cases(), st.sampled_from(["hf", "llama"]))
def test_many_more_cases_of_every_way(case, names):
    original_to_hf(case, names)
    hf_to_original(case, names)
    original_to_original(case)
