"""Tensors of several element types: kept one by one, made one by --dtype, never called damaged."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file, save_file

import converters
from converters.errors import UnsupportedError
from tests.converters.inspection.looking import DIMS, with_tokenizer
from tests.converters.oracle import INTERNLM, INTERNLM2, hf_tensors, make_model, write_hf, write_original
from tests.converters.refusal import refused

NORMS = "norms are float32, the rest bfloat16"


def retyped(tensors, **types):
    """Tensors whose names hold a word, in another type: norm=torch.float32."""
    return {
        name: next((tensor.to(dtype) for word, dtype in types.items() if word in name), tensor)
        for name, tensor in tensors.items()
    }


def hf(folder, names="hf", dims=INTERNLM2, config=(), **types):
    write_hf(folder, make_model(dims), dims, names, **dict(config))
    file = folder / "model.safetensors"
    save_file(retyped(load_file(file), **types), file, {"format": "pt"})
    return folder


def original(folder, dims=INTERNLM2, tp=2, **types):
    write_original(folder, make_model(dims), dims, tp, use_fp32_norm=True)
    for path in folder.glob("model_tp*.pt"):
        torch.save(retyped(torch.load(path, weights_only=True), **types), path)
    return folder


def tensors_of(folder):
    files = sorted(folder.glob("model_tp*.pt"))
    if files:
        return {(p.name, k): v for p in files for k, v in torch.load(p, weights_only=True).items()}
    return load_file(folder / "model.safetensors")


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("dims", [INTERNLM, INTERNLM2], ids=["internlm", "internlm2"])
@pytest.mark.parametrize("to", ["hf", "llama", "original"])
def test_norms_in_float32_beside_bfloat16_are_kept_tensor_by_tensor(tmp_path, dims, to):
    src = hf(tmp_path / "src", dims=dims, norm=torch.float32)
    report = converters.convert(src, tmp_path / "dst", to=to)
    found = tensors_of(tmp_path / "dst")
    norms = {name: tensor for name, tensor in found.items() if "norm" in str(name)}
    assert {tensor.dtype for tensor in norms.values()} == {torch.float32}
    assert {t.dtype for name, t in found.items() if name not in norms} == {torch.bfloat16}
    assert any(NORMS in note for note in report.notes)
    converters.convert(tmp_path / "dst", tmp_path / "back", to="hf")
    assert_equal(tensors_of(tmp_path / "back"), tensors_of(src))


def test_the_config_names_the_type_that_most_bytes_have(tmp_path):
    for to in ("hf", "llama"):
        converters.convert(original(tmp_path / f"o-{to}", norm=torch.float32), tmp_path / to, to=to)
        config = json.loads((tmp_path / to / "config.json").read_text())
        assert config.get("dtype", config.get("torch_dtype")) == "bfloat16"


def test_ranks_that_keep_their_norms_in_float32_come_back_byte_for_byte(tmp_path):
    src = original(tmp_path / "src", norm=torch.float32)
    converters.convert(src, tmp_path / "hf", to="hf")
    converters.convert(tmp_path / "hf", tmp_path / "back", to="original", tp=2)
    assert_equal(tensors_of(tmp_path / "back"), tensors_of(src))
    assert converters.fingerprint(src) == converters.fingerprint(tmp_path / "hf")
    assert converters.compare(src, tmp_path / "back").verdict == "identical"


@pytest.mark.parametrize("to", ["float32", "bfloat16", "float16"])
def test_an_element_type_that_is_asked_for_is_that_of_all(tmp_path, to):
    src = hf(tmp_path / "src", norm=torch.float32, output=torch.float64)
    converters.convert(src, tmp_path / "dst", to="hf", dtype=to)
    wanted = {name: tensor.to(getattr(torch, to)) for name, tensor in tensors_of(src).items()}
    assert_equal(tensors_of(tmp_path / "dst"), wanted)
    config = json.loads((tmp_path / "dst/config.json").read_text())
    assert config.get("dtype", config.get("torch_dtype")) == to


def test_float64_is_kept_and_rounded_as_torch_rounds_it(tmp_path):
    src = hf(tmp_path / "src", model=torch.float64, output=torch.float64)
    halves = load_file(src / "model.safetensors")
    halves = {name: tensor + 2.0**-40 * torch.arange(len(tensor)).reshape(-1, *[1] * (tensor.dim() - 1))
              for name, tensor in halves.items()}  # fmt: skip
    save_file(halves, src / "model.safetensors")
    converters.convert(src, tmp_path / "kept", to="llama")
    converters.convert(tmp_path / "kept", tmp_path / "back", to="hf")
    assert_equal(tensors_of(tmp_path / "back"), halves)
    for name in ("float32", "float16", "bfloat16"):
        converters.convert(src, tmp_path / name, to="hf", dtype=name)
        dtype = getattr(torch, name)
        assert_equal(tensors_of(tmp_path / name), {n: t.to(dtype) for n, t in halves.items()})
        assert converters.compare(src, tmp_path / name).verdict == "rounded"


def test_a_float64_value_beyond_float32_is_refused_by_name(tmp_path):
    src = hf(tmp_path / "src", norm=torch.float64)
    tensors = tensors_of(src)
    tensors["model.norm.weight"][2] = 1e300
    save_file(tensors, src / "model.safetensors")
    with pytest.raises(UnsupportedError, match=r"norm\.weight holds 1e\+300, more than F32"):
        converters.convert(src, tmp_path / "dst", to="hf", dtype="float32")


def test_float64_values_that_differ_less_than_float32_can_show_are_different(tmp_path):
    one, other = (hf(tmp_path / name, norm=torch.float64) for name in ("one", "other"))
    assert converters.compare(one, other).verdict == "identical"
    tensors = tensors_of(other)
    tensors["model.norm.weight"][2] *= 1 + 2.0**-50
    save_file(tensors, other / "model.safetensors")
    found = converters.compare(one, other)
    assert (found.verdict, found.first.tensor, found.first.index) == ("different", "norm.weight", (2,))


def test_the_same_values_in_other_types_are_not_identical(tmp_path):
    one, other = hf(tmp_path / "one"), hf(tmp_path / "other", norm=torch.float32)
    assert converters.compare(one, other).verdict == "same values, other layout"


def test_parts_of_one_stored_tensor_in_two_types_are_refused_with_the_way_out(tmp_path):
    src = hf(tmp_path / "src", "llama", q_proj=torch.float32)
    given = {"rope_theta": 10000, "family": "internlm2"}
    for to in ("hf", "original"):
        message = refused(src, tmp_path / "dst", UnsupportedError, to=to, given=given)
        assert "wqkv.weight" in message and "attention.q.weight is float32" in message
        assert "dtype='bfloat16'" in message
    converters.convert(src, tmp_path / "one", to="hf", dtype="bfloat16", given=given)
    assert Counter(t.dtype for t in tensors_of(tmp_path / "one").values()).keys() == {torch.bfloat16}
    converters.convert(src, tmp_path / "kept", to="llama")
    assert_equal(tensors_of(tmp_path / "kept"), tensors_of(src))


def test_a_reward_head_in_float32_is_kept(tmp_path):
    tensors = hf_tensors(make_model(INTERNLM2), INTERNLM2)
    del tensors["output.weight"]
    src = hf(tmp_path / "src", config={"architectures": ["InternLM2ForRewardModel"]})
    stored = load_file(src / "model.safetensors")
    del stored["output.weight"]
    stored["v_head.weight"] = torch.rand(1, INTERNLM2.hidden)
    save_file(stored, src / "model.safetensors")
    report = converters.convert(src, tmp_path / "dst", to="llama")
    assert any("the reward head is float32, the rest bfloat16" in note for note in report.notes)
    assert torch.equal(tensors_of(tmp_path / "dst")["score.weight"], stored["v_head.weight"])


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_in_eight_bits_are_not_supported_and_not_damaged(tmp_path, dtype):
    src = hf(tmp_path / "src", w1=dtype)
    message = refused(src, tmp_path / "dst", UnsupportedError)
    assert "feed_forward.w1.weight has the element type" in message and "quantised" in message
    assert "release in 16 bits" in message
    (wrong, *_) = converters.inspect(src).findings
    assert "has the element type" in wrong.what and "release in 16 bits" in wrong.fix


def test_a_damaged_value_of_a_mixed_result_is_found_by_verify(tmp_path, zoo):
    src = hf(tmp_path / "src", norm=torch.float32)
    converters.convert(src, tmp_path / "dst", to="llama")
    assert zoo("verify", tmp_path / "dst")[0] == 0
    tensors = tensors_of(tmp_path / "dst")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, tmp_path / "dst/model.safetensors", {"format": "pt"})
    code, out, err = zoo("verify", tmp_path / "dst")
    assert code == 1 and "norm.weight" in out + err


def test_inspect_and_a_dry_run_say_which_tensors_have_which_type(tmp_path, zoo):
    src = with_tokenizer(hf(tmp_path / "src", dims=DIMS, norm=torch.float32))
    for command in (("inspect", src), ("convert", src, tmp_path / "dst", "--to", "llama", "--dry-run")):
        code, _, err = zoo(*command)
        assert code == 0 and NORMS in err


def test_some_of_a_kind_are_counted_and_one_is_named(tmp_path, zoo):
    src = hf(tmp_path / "src", **{"layers.1.ffn_norm": torch.float32})
    assert "1 of 7 norms (first layers.1.mlp_norm.weight) is float32" in zoo("inspect", src)[2]
