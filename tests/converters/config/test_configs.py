"""Configs in every direction: each fact from where it is stated, none from habit, none lost."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import converters
from converters.errors import UnsupportedError, UsageError
from tests.converters.bits import assert_same
from tests.converters.oracle import (
    BOTH,
    INTERNLM,
    INTERNLM2,
    Variant,
    expected,
    make_model,
    read_cells,
    read_config,
    read_hf,
    write_hf,
    write_original,
)
from tests.converters.refusal import refused

FAMILY = pytest.mark.parametrize("dims", BOTH, ids=lambda dims: dims.family)
DYNAMIC = {"type": "dynamic", "factor": 3.0}


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def converted(src, to, **options):
    """Its config."""
    dst = src.with_name(f"{src.name}-{to}")
    converters.convert(src, dst, to=to, **options)
    return read_config(dst) if to == "original" else config_of(dst)


# --- the rotary embedding -----------------------------------------------------------------------------------


@pytest.fixture
def rotary(tmp_path):
    """Write a checkpoint of internlm with that `rotary`, and none of the keys of other versions."""

    def write(**value):
        silent = {"rope_theta": ..., "rope_scaling": ...}
        return write_hf(tmp_path / "src", make_model(INTERNLM), INTERNLM, **silent, rotary=value)

    return write


def test_the_base_of_internlms_rotary_is_read(rotary):
    src = rotary(base=50000, type="origin")
    assert converted(src, "llama")["rope_theta"] == 50000
    assert converted(src, "original")["rope_base"] == 50000
    assert converted(src, "hf")["rotary"] == {"base": 50000, "type": "origin"}


def test_the_scaling_of_internlms_rotary_is_read(rotary):
    src = rotary(base=10000, type="dynamic", scaling_factor=3.0)
    assert converted(src, "llama")["rope_scaling"] == DYNAMIC
    original = converted(src, "original")
    assert original["use_dynamic_ntk_rope"] is True
    assert original["rope_scaling"] == DYNAMIC


@FAMILY
def test_the_base_is_carried_from_the_original_config_to_internlms_rotary(tmp_path, dims):
    src = write_original(tmp_path / "src", make_model(dims), dims, rope_base=50000)
    config = converted(src, "hf")
    assert config.get("rope_theta", config.get("rotary", {}).get("base")) == 50000


@pytest.mark.parametrize("names", ["hf", "llama"])
def test_rope_parameters_of_transformers_5_are_read(tmp_path, names):
    silent = {"rope_theta": ..., "rope_scaling": ...}
    for number, (scaling, wanted) in enumerate(
        [
            ({"rope_type": "default"}, None),
            ({"rope_type": "dynamic", "factor": 2.0}, {"type": "dynamic", "factor": 2.0}),
        ]
    ):
        rope = {"rope_theta": 50000, **scaling}
        folder = tmp_path / str(number)
        src = write_hf(folder, make_model(INTERNLM2), INTERNLM2, names, **silent, rope_parameters=rope)
        config = converted(src, "original", given={"family": "internlm2"})
        assert config["rope_base"] == 50000
        assert config["rope_scaling"] == wanted
        assert config["use_dynamic_ntk_rope"] is (wanted is not None)


@FAMILY
def test_no_scaling_is_added_to_any_format(tmp_path, dims):
    src = write_hf(tmp_path / "src", make_model(dims), dims, rope_scaling=...)
    assert converted(src, "llama")["rope_scaling"] is None
    assert converted(src, "original")["use_dynamic_ntk_rope"] is False


def test_scaling_that_internlms_config_cannot_say_is_refused(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM), INTERNLM)
    given = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    message = refused(src, tmp_path / "dst", UnsupportedError, given=given)
    assert "linear" in message
    assert "rope_scaling" in message


# --- what is refused by name --------------------------------------------------------------------------------

ORIGINAL_DEMANDS = [
    (INTERNLM, {"num_experts": 8}),
    (INTERNLM2, {"num_experts": 8}),
    (INTERNLM, {"norm_type": "layernorm"}),
    (INTERNLM2, {"norm_type": "layernorm"}),
    (INTERNLM, {"apply_post_layer_norm": True}),
    (INTERNLM2, {"no_bias": False}),
]


@pytest.mark.parametrize(
    ("dims", "config"),
    ORIGINAL_DEMANDS,
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.family,
)
def test_a_model_of_another_make_is_refused_by_the_key_that_says_so(tmp_path, dims, config):
    src = write_original(tmp_path / "src", make_model(dims), dims, **config)
    assert next(iter(config)) in refused(src, tmp_path / "dst", UnsupportedError)


@FAMILY
@pytest.mark.parametrize("names", ["hf", "llama"])
def test_so_is_one_in_hugging_face_format(tmp_path, dims, names):
    src = write_hf(tmp_path / "src", make_model(dims), dims, names, hidden_act="gelu")
    assert "hidden_act" in refused(src, tmp_path / "dst", UnsupportedError, to="original")


# --- where a fact comes from --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "key", "fact"),
    [
        (INTERNLM2, "rope_base", "rope_theta"),
        (INTERNLM, "layer_norm_epsilon", "rms_norm_eps"),
        (INTERNLM2, "layer_norm_epsilon", "rms_norm_eps"),
        (INTERNLM, "max_position_embeddings", "max_position_embeddings"),
    ],
)
def test_what_nobody_states_is_asked_for_with_likely_values(tmp_path, dims, key, fact):
    src = write_original(tmp_path / "src", make_model(dims), dims, **{key: None})
    message = refused(src, tmp_path / "dst", UsageError)
    assert f"given={{{fact!r}: VALUE}}" in message
    assert "likely values: " in message


@FAMILY
def test_what_is_given_overrides_the_config_and_is_recorded_as_given(tmp_path, dims):
    src = write_original(tmp_path / "src", make_model(dims), dims)
    config = converted(src, "hf", given={"rms_norm_eps": 3e-6, "max_position_embeddings": 4096})
    assert (config["rms_norm_eps"], config["max_position_embeddings"]) == (3e-6, 4096)
    record = json.loads((tmp_path / "src-hf/conversion.json").read_text())
    assert record["facts"]["rms_norm_eps"] == {"value": 3e-6, "origin": "given"}


def test_what_is_given_of_the_source_overrides_a_config_that_says_otherwise(tmp_path):
    how = Variant(adapt_hf=False)
    src = write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, 2, how=how, adapt_hf=True)
    converters.convert(src, tmp_path / "dst", to="hf", given={"adapt_hf": False})
    assert_same(read_hf(tmp_path / "dst"), expected(make_model(INTERNLM2), INTERNLM2, "hf"))


def test_the_registry_stands_in_where_the_config_is_silent_and_nowhere_else(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM), INTERNLM, max_position_embeddings=None)
    config = converted(src, "hf", known={"max_position_embeddings": 2048, "rms_norm_eps": 3e-6})
    assert (config["max_position_embeddings"], config["rms_norm_eps"]) == (2048, INTERNLM.eps)
    record = json.loads((tmp_path / "src-hf/conversion.json").read_text())
    assert record["facts"]["max_position_embeddings"]["origin"] == "registry"
    assert record["facts"]["rms_norm_eps"]["origin"] == "model_config.pt"


def test_a_key_that_is_no_fact_is_refused_with_what_is_near(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM), INTERNLM)
    message = refused(src, tmp_path / "dst", UsageError, given={"rope_thetta": 1})
    assert "rope_thetta" in message
    assert "rope_theta?" in message or "rope_theta or" in message


@FAMILY
def test_the_width_of_the_mlp_is_the_tensors_whatever_mlp_ratio_says(tmp_path, dims):
    src = write_original(tmp_path / "src", make_model(dims), dims, 4, mlp_ratio=2.5)
    assert converted(src, "hf")["intermediate_size"] == dims.inter


@FAMILY
def test_a_config_that_stays_in_its_format_keeps_its_keys_but_for_code(tmp_path, dims):
    own = {"auto_map": {"AutoModel": "modeling.Model"}, "transformers_version": "4.37.2", "note": "mine"}
    config = converted(write_hf(tmp_path / "src", make_model(dims), dims, **own), "hf")
    assert config["note"] == "mine"
    assert not {"auto_map", "transformers_version"} & config.keys()


# --- biases -------------------------------------------------------------------------------------------------


@pytest.fixture
def unbiased(tmp_path):
    """An original checkpoint of internlm that was trained with no_bias, and its tensors."""
    src = write_original(tmp_path / "src", make_model(INTERNLM), INTERNLM, 2, no_bias=True)
    for path in src.glob("model_tp*.pt"):
        state = torch.load(path, weights_only=True)
        torch.save({name: tensor for name, tensor in state.items() if "bias" not in name}, path)
    return src, {name: array for name, array in make_model(INTERNLM).items() if "bias" not in name}


def test_internlm_without_biases_has_none_in_any_format(tmp_path, unbiased):
    src, model = unbiased
    assert converted(src, "hf")["bias"] is False
    assert converted(src, "llama")["attention_bias"] is False
    assert_same(read_hf(tmp_path / "src-hf"), model)
    assert_same(read_hf(tmp_path / "src-llama"), model)


def test_a_llama_directory_without_biases_is_of_the_family_its_record_names(tmp_path, unbiased):
    converted(unbiased[0], "llama")
    assert converted(tmp_path / "src-llama", "original")["no_bias"] is True
    assert "blocks.0.mlp.w1.weight" in read_cells(tmp_path / "src-llama-original")[0, 0]


def test_biases_that_are_asked_for_must_be_there(unbiased):
    checkpoint = converters.open_checkpoint(unbiased[0])
    with pytest.raises(UnsupportedError, match=r"needs layers\.0\.attention\.k\.bias"):
        converters.plan_conversion(
            checkpoint, converters.ConversionOptions("llama", given={"attention_bias": True})
        )


# --- what a format cannot say -------------------------------------------------------------------------------


def test_grouped_queries_are_refused_where_the_format_has_none(tmp_path):
    dims = replace(INTERNLM, kv_heads=4)
    src = write_hf(tmp_path / "src", make_model(dims), dims, "llama")
    given = {"family": "internlm"}
    assert "num_kv_heads" in refused(src, tmp_path / "dst", UnsupportedError, to="hf", given=given)


def test_heads_of_another_size_are_refused_where_the_format_cannot_say_it(tmp_path):
    model = expected(make_model(INTERNLM2), INTERNLM2, "llama")
    src = write_hf(tmp_path / "src", model, INTERNLM2, "llama", head_dim=4)
    tensors = load_file(src / "model.safetensors")
    for name, tensor in tensors.items():
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            tensors[name] = tensor[: len(tensor) // 2].clone()
        if name.endswith("o_proj.weight"):
            tensors[name] = tensor[:, : tensor.shape[1] // 2].clone()
    save_file(tensors, src / "model.safetensors")
    given = {"family": "internlm2"}
    assert "head_dim" in refused(src, tmp_path / "dst", UnsupportedError, to="hf", given=given)


def test_a_reward_model_has_no_original_format(tmp_path):
    own = {"architectures": ["InternLM2ForRewardModel"]}
    src = write_hf(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, **own)
    tensors = load_file(src / "model.safetensors")
    del tensors["output.weight"]
    score = {"v_head.weight": torch.ones(1, INTERNLM2.hidden, dtype=torch.bfloat16)}
    save_file(tensors | score, src / "model.safetensors")
    message = refused(src, tmp_path / "dst", UnsupportedError, to="original")
    assert "no place for reward.weight" in message
    assert converted(src, "llama")["architectures"] == ["LlamaForSequenceClassification"]
