"""internlm3: what stock Llama can express becomes it, the rest is refused by the name of the field."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, LlamaConfig

import converters
from converters.errors import UnsupportedError
from tests.converters.bits import assert_same, to_torch
from tests.converters.oracle import INTERNLM2, expected, make_model, read_hf, write_hf
from tests.converters.refusal import refused

INTERNLM3 = replace(INTERNLM2, heads=8, kv_heads=2)
OWN = {"architectures": ["InternLM3ForCausalLM"], "model_type": "internlm3", "qkv_bias": False, "bias": False}


def write(folder, biased=False, **config):
    """A checkpoint of the family. biased: both of its switches on."""
    model = make_model(INTERNLM3)
    switches = {"qkv_bias": biased, "bias": biased}
    src = write_hf(folder, model, INTERNLM3, "llama", attention_bias=..., **{**OWN, **switches, **config})
    if biased:
        biases = {
            name.replace("weight", "bias"): np.arange(len(array), dtype=np.uint16)
            for name, array in model.items()
            if "_proj" in name
        }
        model |= biases
        tensors = {name: to_torch(array, "bfloat16") for name, array in biases.items()}
        save_file(load_file(src / "model.safetensors") | tensors, src / "model.safetensors")
    return src, model


@pytest.mark.parametrize("biased", [False, True])
def test_it_becomes_stock_llama(tmp_path, biased):
    src, model = write(tmp_path / "src", biased)
    converters.convert(src, tmp_path / "dst", to="llama")
    assert_same(read_hf(tmp_path / "dst"), expected(model, INTERNLM3, "llama"))
    config = AutoConfig.from_pretrained(tmp_path / "dst", trust_remote_code=False)
    assert isinstance(config, LlamaConfig)
    assert (config.attention_bias, config.mlp_bias) == (biased, biased)
    assert (config.num_attention_heads, config.num_key_value_heads) == (8, 2)


@pytest.mark.parametrize("biased", [False, True])
def test_it_comes_back_from_llama(tmp_path, biased):
    src, model = write(tmp_path / "src", biased)
    converters.convert(src, tmp_path / "llama", to="llama")
    converters.convert(tmp_path / "llama", tmp_path / "dst", to="hf")
    assert_same(read_hf(tmp_path / "dst"), model)
    config = json.loads((tmp_path / "dst/config.json").read_text())
    assert config["model_type"] == "internlm3"
    assert (config["qkv_bias"], config["bias"]) == (biased, biased)


@pytest.mark.parametrize(("qkv_bias", "bias"), [(True, False), (False, True)])
def test_two_switches_that_differ_are_refused_by_name(tmp_path, qkv_bias, bias):
    src, _ = write(tmp_path / "src", qkv_bias=qkv_bias, bias=bias)
    message = refused(src, tmp_path / "dst", UnsupportedError, to="llama")
    assert "qkv_bias" in message
    assert "bias is" in message


def test_the_size_of_a_head_is_the_configs_own(tmp_path):
    """Heads of 8 where the hidden size over their number would be 16."""
    src, model = write(tmp_path / "src", head_dim=8)
    narrow = {
        name: np.ascontiguousarray(
            array[: len(array) // 2]
            if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))
            else array[:, : array.shape[1] // 2]
            if name.endswith("o_proj.weight")
            else array
        )
        for name, array in model.items()
    }
    save_file({n: to_torch(array, "bfloat16") for n, array in narrow.items()}, src / "model.safetensors")
    converters.convert(src, tmp_path / "dst", to="llama")
    assert_same(read_hf(tmp_path / "dst"), narrow)
    assert json.loads((tmp_path / "dst/config.json").read_text())["head_dim"] == 8


def test_there_is_no_original_format_of_it(tmp_path):
    src, _ = write(tmp_path / "src")
    message = refused(src, tmp_path / "dst", UnsupportedError, to="original")
    assert "internlm3" in message
    assert "none was published" in message
