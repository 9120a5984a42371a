"""--dtype: every value is the nearest of the new element type, by torch; what it cannot hold is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save_file

import converters
from converters.errors import UnsupportedError, UsageError
from tests.converters.oracle import INTERNLM, INTERNLM2, make_model, read_cells, write_hf, write_original

NAMES = ("float32", "float16", "bfloat16")
CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@pytest.mark.parametrize("to", NAMES)
@pytest.mark.parametrize("stored", NAMES)
@pytest.mark.parametrize("dims", [INTERNLM, INTERNLM2], ids=["internlm", "internlm2"])
def test_every_value_is_rounded_as_torch_rounds_it(tmp_path, dims, stored, to):
    dims = replace(dims, dtype=stored)
    src = write_original(tmp_path / "src", make_model(dims), dims, 2)
    converters.convert(src, tmp_path / "kept", to="hf")
    report = converters.convert(src, tmp_path / "dst", to="hf", dtype=to)
    kept, rounded = (torch_hf(tmp_path / name) for name in ("kept", "dst"))
    assert kept.keys() == rounded.keys()
    for name, tensor in rounded.items():
        assert torch.equal(tensor, kept[name].to(getattr(torch, to))), name
    config = json.loads((tmp_path / "dst/config.json").read_text())
    assert config.get("dtype", config.get("torch_dtype")) == to
    assert report.plan.dtype == CODES[to]


def torch_hf(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("to", ["float16", "float32"])
def test_a_grid_of_another_dtype_and_back_by_the_same_rounding(tmp_path, to):
    dims = replace(INTERNLM2, dtype="bfloat16")
    src = write_hf(tmp_path / "src", make_model(dims), dims)
    converters.convert(src, tmp_path / "cut", to="original", tp=2, pp=2, dtype=to)
    wanted = {name: tensor.to(getattr(torch, to)) for name, tensor in torch_hf(src).items()}
    for state in torch_cells(tmp_path / "cut"):
        assert {tensor.dtype for tensor in state.values()} == {getattr(torch, to)}
    converters.convert(tmp_path / "cut", tmp_path / "back", to="hf")
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in torch_hf(tmp_path / "back").items())
    config = torch.load(tmp_path / "cut/model_config.pt", weights_only=False)
    assert config["dtype"] == getattr(torch, to)


def torch_cells(folder):
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("model_tp*.pt"))]


def test_compare_says_rounded_for_a_narrower_and_the_same_for_a_wider_type(tmp_path):
    dims = replace(INTERNLM, dtype="bfloat16")
    src = write_hf(tmp_path / "src", make_model(dims), dims)
    converters.convert(src, tmp_path / "wide", to="hf", dtype="float32")
    assert converters.compare(src, tmp_path / "wide").verdict == "same values, other layout"
    dims = replace(INTERNLM, dtype="float32")
    src = write_hf(tmp_path / "precise", make_model(dims), dims)
    converters.convert(src, tmp_path / "narrow", to="llama", dtype="bfloat16")
    found = converters.compare(src, tmp_path / "narrow")
    assert found.verdict == "rounded"
    kept, rounded = torch_hf(src), torch_hf(tmp_path / "narrow")
    assert found.max_error == max(
        float((tensor.float() - rounded[name].float()).abs().max()) for name, tensor in kept.items()
    )


def test_a_value_too_large_for_the_new_type_is_refused_by_name(tmp_path):
    dims = replace(INTERNLM, dtype="bfloat16")
    src = write_original(tmp_path / "src", make_model(dims), dims, 1)
    path = src / "model_tp0_pp0.pt"
    state = torch.load(path, weights_only=True)
    state["blocks.1.norm2.weight"][3] = 1e5
    torch.save(state, path)
    with pytest.raises(UnsupportedError, match=r"layers\.1\.mlp_norm\.weight holds 99840, more than F16"):
        converters.convert(src, tmp_path / "dst", to="hf", dtype="float16")
    assert not (tmp_path / "dst").exists()


@pytest.mark.parametrize("to", ["float16", "float32"])
def test_a_value_that_is_infinite_or_no_number_already_stays_so(tmp_path, to):
    src = write_hf(tmp_path / "src", make_model(INTERNLM), INTERNLM)
    tensors = torch_hf(src)
    tensors["model.norm.weight"][:3] = torch.tensor([float("inf"), float("-inf"), float("nan")])
    save_file(tensors, src / "model.safetensors")
    converters.convert(src, tmp_path / "dst", to="hf", dtype=to)
    found = torch_hf(tmp_path / "dst")["model.norm.weight"][:3].float().tolist()
    assert found[:2] == [float("inf"), float("-inf")]
    assert found[2] != found[2]


NANS = (0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF)  # rounded as numbers: infinities and zeros


@example(b"".join(bits.to_bytes(4, "little") for bits in NANS))
@given(st.binary(min_size=4, max_size=64).filter(lambda data: len(data) % 4 == 0))
def test_any_bits_of_a_float32_become_what_torch_makes_of_them(data):
    from converters.streaming.rows import from_floats, to_floats

    values = to_floats(torch.frombuffer(bytearray(data), dtype=torch.uint8).numpy(), "F32")
    for dtype in ("bfloat16", "float16"):
        ours = torch.from_numpy(from_floats(values, CODES[dtype])).view(getattr(torch, dtype))
        theirs = torch.from_numpy(values).to(getattr(torch, dtype))
        assert torch.equal(ours.isnan(), theirs.isnan())
        assert torch.equal(ours.nan_to_num(0, 1, -1), theirs.nan_to_num(0, 1, -1))


def test_an_unknown_dtype_is_refused(tmp_path):
    src = write_hf(tmp_path / "src", make_model(INTERNLM), INTERNLM)
    with pytest.raises(UsageError, match="int8"):
        converters.convert(src, tmp_path / "dst", to="hf", dtype="int8")


def test_the_files_of_a_grid_keep_their_names_and_shapes(tmp_path):
    dims = replace(INTERNLM, dtype="float32")
    src = write_original(tmp_path / "src", make_model(dims), dims, 2)
    converters.convert(src, tmp_path / "dst", to="original", tp=2, dtype="bfloat16")
    before, after = read_cells(src), read_cells(tmp_path / "dst")
    assert {place: {n: a.shape for n, a in state.items()} for place, state in before.items()} == {
        place: {n: a.shape for n, a in state.items()} for place, state in after.items()
    }
