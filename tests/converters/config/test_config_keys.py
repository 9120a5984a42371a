"""Keys of a config that nothing reads: without effect and silent, named, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import converters
from converters.errors import UnsupportedError
from tests.converters.bits import assert_same
from tests.converters.oracle import (
    BOTH,
    INTERNLM,
    INTERNLM2,
    expected,
    make_model,
    read_config,
    read_hf,
    write_hf,
    write_original,
)
from tests.converters.refusal import refused

FAMILY = pytest.mark.parametrize("dims", BOTH, ids=lambda dims: dims.family)
FACTS = Path(__file__).parents[3].parent / "shared/data/facts.yaml"

# Each changes what a model computes, in a way that no shape shows.
TOUCHING = {
    "attention_multiplier": 0.125,
    "softmax_scale": 0.1,
    "logit_scale": 0.0625,
    "embedding_multiplier": 12,
    "residual_multiplier": 0.22,
    "attn_logit_softcapping": 50.0,
    "sliding_window": 4096,
    "partial_rotary_factor": 0.5,
    "rotary_emb_scale_base": 512,
    "use_logn_attn": True,
    "qk_layernorm": True,
    "use_rmsnorm": False,
    "hidden_activation": "gelu",
    "num_local_experts": 8,
    "deepnorm_scale": 0.81,
}
NEUTRAL: dict[str, Any] = {
    "sliding_window": None,
    "attn_logit_softcapping": None,
    "logit_scale": 1.0,
    "residual_multiplier": 1,
    "qk_layernorm": False,
    "partial_rotary_factor": 1.0,
    "num_local_experts": 0,
    "pruned_heads": {},
    "use_rmsnorm": None,
    "attention_dropout": 0.1,
    "router_aux_loss_coef": 0.001,
}


def unread(source):
    """What is said of keys that nothing reads."""
    return [note for note in source.notes if "nothing here reads" in note]


@pytest.fixture(params=["original", "hf", "llama"])
def with_keys(request, tmp_path):
    """Write an internlm2 checkpoint in a format, with keys added to its config."""

    def write(**keys):
        src, model = tmp_path / "src", make_model(INTERNLM2)
        if request.param == "original":
            write_original(src, model, INTERNLM2)
            torch.save({**read_config(src), **keys}, src / "model_config.pt")
            return src
        return write_hf(src, model, INTERNLM2, request.param, **keys)

    return write


@pytest.mark.parametrize("key", TOUCHING)
def test_a_key_that_changes_the_model_is_refused_by_its_name(tmp_path, key):
    src = write_hf(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, **{key: TOUCHING[key]})
    with pytest.raises(UnsupportedError, match=f"{key} is {TOUCHING[key]!r}"):
        converters.open_checkpoint(src)


def test_the_way_out_of_such_a_refusal_says_that_the_key_changes_nothing(tmp_path, with_keys):
    key = "residual_multiplier"
    src = with_keys(**{key: 0.22})
    assert f"given={{{key!r}: None}}" in refused(src, tmp_path / "dst", UnsupportedError, to="llama")
    report = converters.convert(src, tmp_path / "dst", to="llama", given={key: None})
    assert_same(read_hf(tmp_path / "dst"), expected(make_model(INTERNLM2), INTERNLM2, "llama"))
    assert not any(key in note for note in report.notes)
    assert json.loads((tmp_path / "dst/config.json").read_text()).get(key) is None


def test_values_that_change_nothing_need_no_word(with_keys):
    assert not unread(converters.open_checkpoint(with_keys(**NEUTRAL)))


def test_other_keys_are_named_in_one_note(tmp_path, with_keys, zoo):
    src = with_keys(lineage="mine", stage_of_training=3)
    code, _, err = zoo("inspect", src)
    assert "nothing here reads lineage, stage_of_training" in err
    assert code == 1  # for want of a tokenizer
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama")
    assert code == 0
    assert "nothing here reads lineage, stage_of_training" in err


def test_every_command_that_opens_a_checkpoint_refuses_it_and_takes_the_way_out(with_keys, zoo):
    src = with_keys(residual_multiplier=0.22)
    for command in (["fingerprint", src], ["compare", src, src]):
        code, _, err = zoo(*command)
        assert code == 7
        assert "--set residual_multiplier=null" in err
        assert zoo(*command, "--set", "residual_multiplier=null")[0] == 0
    code, out, _ = zoo("inspect", src)
    assert code == 1
    assert "residual_multiplier is 0.22" in " ".join(out.split())


def test_two_checkpoints_of_which_one_has_the_key_are_compared(tmp_path, with_keys, zoo):
    src, said = with_keys(residual_multiplier=0.22), ("--set", "residual_multiplier=null")
    assert zoo("convert", src, tmp_path / "dst", "--to", "llama", *said)[0] == 0
    assert zoo("compare", src, tmp_path / "dst", *said)[0] == 0


@pytest.mark.parametrize("given", ["rope_thetta=null", "residual_multiplier=1.5"])
def test_a_fact_misspelt_and_a_key_that_is_not_there_are_no_facts(with_keys, zoo, given):
    code, _, err = zoo("fingerprint", with_keys(), "--set", given)
    assert code == 2
    assert f"{given.partition('=')[0]} is not a fact" in err


# --- no false alarms ----------------------------------------------------------------------------------------


def small(config, dims):
    """The config of a release, with the sizes of a small model and everything else as it is."""
    sizes = {
        "hidden_size": dims.hidden,
        "intermediate_size": dims.inter,
        "num_attention_heads": dims.heads,
        "num_key_value_heads": dims.kv_heads,
        "num_hidden_layers": dims.layers,
        "vocab_size": dims.vocab,
        "head_dim": dims.head_dim,
        "pad_token_id": 2,
    }
    return config | {key: value for key, value in sizes.items() if key in config}


def assert_opens_silently(src, dims, names):
    source = converters.open_checkpoint(src)
    assert not unread(source)
    assert source.layout.name == {"llama": "llama/llama"}.get(names, f"{dims.family}/{names}")


def test_what_stock_transformers_writes_of_llama_opens_without_a_word(tmp_path):
    from transformers import LlamaConfig

    for number, options in enumerate(({}, {"dtype": "bfloat16", "architectures": ["LlamaForCausalLM"]})):
        config = small(LlamaConfig(**options).to_dict(), INTERNLM2) | {"dtype": "bfloat16"}
        src = write_hf(tmp_path / str(number), make_model(INTERNLM2), INTERNLM2, "llama")
        (src / "config.json").write_text(json.dumps(config))
        assert_opens_silently(src, INTERNLM2, "llama")


# What LlamaConfig().to_dict() of transformers 4.37.2 holds beside the sizes.
TRANSFORMERS_4 = {
    "return_dict": True,
    "output_hidden_states": False,
    "output_attentions": False,
    "torchscript": False,
    "use_bfloat16": False,
    "tf_legacy_loss": False,
    "pruned_heads": {},
    "chunk_size_feed_forward": 0,
    "is_encoder_decoder": False,
    "is_decoder": False,
    "cross_attention_hidden_size": None,
    "add_cross_attention": False,
    "tie_encoder_decoder": False,
    "max_length": 20,
    "min_length": 0,
    "do_sample": False,
    "early_stopping": False,
    "num_beams": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "num_return_sequences": 1,
    "output_scores": False,
    "return_dict_in_generate": False,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "remove_invalid_values": False,
    "exponential_decay_length_penalty": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "finetuning_task": None,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "tokenizer_class": None,
    "prefix": None,
    "sep_token_id": None,
    "decoder_start_token_id": None,
    "task_specific_params": None,
    "problem_type": None,
    "_name_or_path": "",
    "transformers_version": "4.37.2",
    "attention_dropout": 0.0,
    "attn_implementation": "eager",
    "_attn_implementation_autoset": True,
    "initializer_range": 0.02,
    "pretraining_tp": 1,
    "use_cache": True,
    "auto_map": {"AutoConfig": "configuration.Config"},
}


@FAMILY
@pytest.mark.parametrize("names", ["hf", "llama"])
def test_what_transformers_4_writes_opens_without_a_word(tmp_path, dims, names):
    src = write_hf(tmp_path / "src", make_model(dims), dims, names, **TRANSFORMERS_4)
    assert_opens_silently(src, dims, names)


def test_released_configs_open_without_a_word(tmp_path):
    if not FACTS.is_file():
        pytest.skip("the facts of the releases lie beside the repository, and are not there")
    known = yaml.safe_load(FACTS.read_text())["models"]
    seen = 0
    for name, facts in known.items():
        values = (facts.get("config") or {}).get("values") or {}
        family = next(one for one in ("internlm3", "internlm2", "internlm") if name.startswith(one))
        if family == "internlm3" or any("Reward" in name for name in values.get("architectures", ())):
            continue
        dims = INTERNLM2 if family == "internlm2" else INTERNLM
        own = {
            key: value for key, value in values.items() if not key.startswith(("rope_scaling_", "generation"))
        }
        own |= {"bias": dims.biased, "torch_dtype": "bfloat16"}
        own |= {"rope_theta": ..., "rope_scaling": ...} if "rotary" in own else {}
        src = write_hf(tmp_path / name, make_model(dims), dims, **small(own, dims))
        assert_opens_silently(src, dims, "hf")
        seen += 1
    assert seen > 5


# The arguments of InternLM2 in InternEvo, at c628a8c and after it, but for the sizes.
INTERNEVO = {
    "attn_drop_rate": 0.0,
    "drop_rate": 0.0,
    "checkpoint": 0.2,
    "first": True,
    "last": True,
    "start_layer_idx": 0,
    "apply_post_layer_norm": False,
    "residual_in_fp32": False,
    "is_reward": False,
    "dropout_selective_checkpoint": True,
    "use_scaled_init": True,
    "use_swiglu": True,
    "use_flash_attn": True,
    "embedding_init_std": 0.02,
    "attn_wqkv_init_std": 0.02,
    "attn_other_init_std": 0.02,
    "ffn_uplayer_init_std": 0.02,
    "ffn_other_init_std": 0.02,
    "out_head_init_std": 0.02,
    "init_type": "normal",
    "mlp_layer_fusion": False,
    "enable_qkv_fusion": True,
    "multiple_of": 256,
    "num_experts": 1,
    "moe_use_residual": False,
    "moe_type": "GShard",
    "enable_qk_norm": False,
    "rope_scaling_factor": 1.0,
}


@FAMILY
def test_what_internevo_writes_opens_without_a_word(tmp_path, dims):
    src = write_original(tmp_path / "src", make_model(dims), dims, **INTERNEVO)
    assert_opens_silently(src, dims, "original")


@pytest.mark.parametrize("key", ["use_swiglu", "is_reward"])
def test_other_makes_of_internevo_are_refused(tmp_path, key):
    src = write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, **{key: not INTERNEVO[key]})
    assert key in refused(src, tmp_path / "dst", UnsupportedError)
