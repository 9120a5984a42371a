"""Original checkpoints become the family's Hugging Face files, or stock Llama's, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

import converters
from tests.converters.bits import assert_same, to_torch
from tests.converters.oracle import (
    BOTH,
    INTERNLM,
    INTERNLM2,
    Variant,
    expected,
    make_model,
    read_hf,
    stages_of,
    write_hf,
    write_original,
)

FAMILY = pytest.mark.parametrize("dims", BOTH, ids=lambda dims: dims.family)
NAMES = pytest.mark.parametrize("names", ["hf", "llama"])


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@FAMILY
@NAMES
@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 1), (1, 2), (4, 3), (8, 2)])
def test_every_grid_gives_the_tensors_of_the_whole_model(tmp_path, dims, names, tp, pp):
    model = make_model(dims)
    src = write_original(tmp_path / "src", model, dims, tp, stages_of(dims.layers, pp))
    converters.convert(src, tmp_path / "dst", to=names)
    assert_same(read_hf(tmp_path / "dst"), expected(model, dims, names))


@FAMILY
@pytest.mark.parametrize("stages", [(1, 2, 2), (3, 2), (1, 1, 1, 2), (4, 1)], ids=str)
def test_uneven_stages_number_their_layers_on(tmp_path, dims, stages):
    dims = replace(dims, layers=5)
    model = make_model(dims)
    converters.convert(write_original(tmp_path / "src", model, dims, 2, stages), tmp_path / "dst", to="hf")
    assert_same(read_hf(tmp_path / "dst"), expected(model, dims, "hf"))


def test_more_than_ten_layers_keep_their_numeric_order(tmp_path):
    dims = replace(INTERNLM, layers=12)
    model = make_model(dims)
    src = write_original(tmp_path / "src", model, dims, 1, (11, 1))
    converters.convert(src, tmp_path / "dst", to="hf")
    assert_same(read_hf(tmp_path / "dst"), expected(model, dims, "hf"))


@FAMILY
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_every_dtype_is_kept(tmp_path, dims, dtype):
    dims = replace(dims, dtype=dtype)
    model = make_model(dims)
    converters.convert(write_original(tmp_path / "src", model, dims, 2), tmp_path / "dst", to="hf")
    assert_same(read_hf(tmp_path / "dst"), expected(model, dims, "hf"))
    config = json.loads((tmp_path / "dst" / "config.json").read_text())
    assert config.get("dtype", config.get("torch_dtype")) == dtype


@FAMILY
def test_shards_and_index_are_those_of_the_standard_names(tmp_path, dims):
    model = make_model(dims)
    src = write_original(tmp_path / "src", model, dims, 2)
    converters.convert(src, tmp_path / "dst", to="hf", max_shard_size="10KB")
    index = json.loads((tmp_path / "dst" / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    count = len(shards)
    assert count > 2
    assert shards == [f"model-{n + 1:05d}-of-{count:05d}.safetensors" for n in range(count)]
    assert set(shards) == {name for name in files(tmp_path / "dst") if name.endswith(".safetensors")}
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in model.values())
    assert set(index["weight_map"]) == set(expected(model, dims, "hf"))
    assert_same(read_hf(tmp_path / "dst"), expected(model, dims, "hf"))


@FAMILY
@pytest.mark.parametrize("size", ["60KB", "200KB", "5GB"])
def test_shards_and_index_are_those_of_save_pretrained(tmp_path, dims, size):
    """To the byte: a stock model that was given these weights, and saved."""
    src = write_original(tmp_path / "src", make_model(dims), dims, 2)
    converters.convert(src, tmp_path / "ours", to="llama", max_shard_size=size)
    checkpoint = converters.open_checkpoint(src)
    config = LlamaConfig(**converters.llama_config(checkpoint))
    model = LlamaForCausalLM(config).to(getattr(torch, dims.dtype))
    model.load_state_dict({name: to_torch(bits, dims.dtype) for name, bits in make_model(dims).items()})
    model.save_pretrained(tmp_path / "theirs", max_shard_size=size)
    ours, theirs = (
        {path.name: path.read_bytes() for path in (tmp_path / side).glob("model*")}
        for side in ("ours", "theirs")
    )
    assert ours == theirs


# As the modules of modeling_internlm.py and modeling_internlm2.py come, which is not Llama's order.
ORDER = {
    "internlm": [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "down_proj",
        "up_proj",
        "input_layernorm",
    ],
    "internlm2": ["wqkv", "wo", "w1", "w3", "w2", "attention_norm"],
}


@FAMILY
def test_shards_are_cut_in_the_order_of_the_familys_own_modules(tmp_path, dims):
    src = write_original(tmp_path / "src", make_model(dims), dims, 2)
    converters.convert(src, tmp_path / "dst", to="hf", max_shard_size="0.001KB")  # each in a file of its own
    index = json.loads((tmp_path / "dst" / "model.safetensors.index.json").read_text())
    names = sorted(index["weight_map"], key=index["weight_map"].__getitem__)
    modules = [name.split(".")[-2] for name in names if ".layers.1." in name]
    assert list(dict.fromkeys(modules))[:-1] == ORDER[dims.family]  # the last is the second norm


def test_one_shard_has_no_index(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM), INTERNLM)
    converters.convert(src, tmp_path / "dst", to="hf")
    assert "model.safetensors" in files(tmp_path / "dst")
    assert "model.safetensors.index.json" not in files(tmp_path / "dst")


@FAMILY
def test_config_of_hf_holds_the_released_fields_and_no_code(tmp_path, dims):
    src = write_original(tmp_path / "src", make_model(dims), dims, 2)
    converters.convert(src, tmp_path / "dst", to="hf")
    config = json.loads((tmp_path / "dst" / "config.json").read_text())
    assert config["architectures"] == [
        {"internlm": "InternLMForCausalLM", "internlm2": "InternLM2ForCausalLM"}[dims.family]
    ]
    assert config["model_type"] == dims.family
    assert config["bias"] is dims.biased
    assert config["hidden_size"] == dims.hidden
    assert config["intermediate_size"] == dims.inter
    assert config["num_attention_heads"] == dims.heads
    assert config["num_hidden_layers"] == dims.layers
    assert config["vocab_size"] == dims.vocab
    assert config["rms_norm_eps"] == dims.eps
    assert config["max_position_embeddings"] == dims.positions
    assert config["tie_word_embeddings"] is False
    assert "auto_map" not in config
    assert not list((tmp_path / "dst").glob("*.py"))
    if dims.family == "internlm2":
        assert config["num_key_value_heads"] == dims.kv_heads
        assert config["rope_theta"] == dims.rope_base


@FAMILY
def test_config_of_llama_is_read_by_stock_transformers(tmp_path, dims):
    src = write_original(tmp_path / "src", make_model(dims), dims, 2)
    converters.convert(src, tmp_path / "dst", to="llama")
    config = AutoConfig.from_pretrained(tmp_path / "dst", trust_remote_code=False)
    assert isinstance(config, LlamaConfig)
    assert config.architectures == ["LlamaForCausalLM"]
    assert config.attention_bias is dims.biased
    assert not config.mlp_bias
    assert (config.num_attention_heads, config.num_key_value_heads) == (dims.heads, dims.kv_heads)
    assert (config.hidden_size, config.intermediate_size) == (dims.hidden, dims.inter)
    assert (config.num_hidden_layers, config.vocab_size) == (dims.layers, dims.vocab)
    assert config.rms_norm_eps == dims.eps
    assert config.rope_parameters["rope_theta"] == dims.rope_base
    assert config.rope_parameters["rope_type"] == "default"
    assert config.max_position_embeddings == dims.positions
    assert config.hidden_act == "silu"
    assert config.tie_word_embeddings is False


@NAMES
@FAMILY
@pytest.mark.parametrize(("container", "count"), [("bin", 1), ("bin", 3), ("safetensors", 3)])
def test_hf_directories_of_any_container_become_safetensors(tmp_path, dims, names, container, count):
    model = make_model(dims)
    src = write_hf(tmp_path / "src", model, dims, container=container, files=count)
    converters.convert(src, tmp_path / "dst", to=names)
    assert_same(read_hf(tmp_path / "dst"), expected(model, dims, names))


@FAMILY
def test_read_tensors_streams_the_llama_tensors(tmp_path, dims):
    model = make_model(dims)
    checkpoint = converters.open_checkpoint(write_original(tmp_path / "src", model, dims, 4, (1, 2)))
    found = {
        name: (code, shape, bytes(data)) for name, code, shape, data in converters.read_tensors(checkpoint)
    }
    assert found == {name: ("BF16", array.shape, array.tobytes()) for name, array in model.items()}
    chosen = ["lm_head.weight", "model.layers.2.self_attn.k_proj.weight"]
    some = {name: bytes(data) for name, _, _, data in converters.read_tensors(checkpoint, names=chosen)}
    assert some == {name: model[name].tobytes() for name in chosen}


@FAMILY
def test_what_a_checkpoint_is_can_be_asked(tmp_path, dims):
    src = write_original(tmp_path / "src", make_model(dims), dims, 4, (1, 2))
    checkpoint = converters.open_checkpoint(src)
    assert (checkpoint.family, checkpoint.format) == (dims.family, "original")
    assert (checkpoint.tp, checkpoint.pp) == (4, 2)
    for names in ("hf", "llama"):
        converters.convert(src, tmp_path / names, to=names)
        checkpoint = converters.open_checkpoint(tmp_path / names)
        assert (checkpoint.family, checkpoint.format) == (dims.family, names)


def test_a_plan_is_made_without_writing(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, 2, how=Variant(adapt_hf=False))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    plan = converters.plan_conversion(converters.open_checkpoint(src), converters.ConversionOptions("hf"))
    assert str(plan)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
