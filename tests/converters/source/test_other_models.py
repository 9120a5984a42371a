"""What is merely not supported is refused by its name with exit code 7, and called damaged by nobody."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.converters.inspection.looking import with_tokenizer
from tests.converters.oracle import INTERNLM2, make_model, write_hf

DIMS = replace(INTERNLM2, layers=2, hidden=32, heads=4, kv_heads=2, inter=48, vocab=2048)
WQKV = "model.layers.0.attention.wqkv"


@pytest.fixture
def hf(tmp_path):
    return with_tokenizer(write_hf(tmp_path / "hf", make_model(DIMS), DIMS))


def config(hf, **entries):
    path = hf / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def tensors(hf, change):
    path = hf / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def packed(state):
    """As AutoAWQ and AutoGPTQ pack a matrix."""
    state = {name: tensor for name, tensor in state.items() if "wqkv" not in name}
    for layer in range(DIMS.layers):
        at = f"model.layers.{layer}.attention.wqkv"
        state[f"{at}.qweight"] = torch.zeros(32, 8, dtype=torch.int32)
        state[f"{at}.qzeros"] = torch.zeros(1, 8, dtype=torch.int32)
        state[f"{at}.scales"] = torch.zeros(1, 64, dtype=torch.float16)
    return state


def eight_bits(state):
    return {
        name: tensor.to(torch.float8_e4m3fn) if tensor.dim() == 2 else tensor
        for name, tensor in state.items()
    }


def bitsandbytes(state):
    return state | {
        f"{WQKV}.weight": torch.zeros(2048, 1, dtype=torch.uint8),
        f"{WQKV}.weight.absmax": torch.zeros(64),
        f"{WQKV}.weight.quant_state.bitsandbytes__nf4": torch.zeros(8, dtype=torch.uint8),
    }


def compressed(state):
    state = dict(state)
    del state[f"{WQKV}.weight"]
    return state | {f"{WQKV}.weight_packed": torch.zeros(64, 4, dtype=torch.int32)}


def refused(zoo, hf, tmp_path, *words):
    """By convert and, as one finding, by inspect."""
    code, _, err = zoo("convert", hf, tmp_path / "dst", "--to", "llama")
    assert code == 7, err
    (finding,) = json.loads(zoo("inspect", hf, "--json")[1])["findings"]
    for word in words:
        assert word in err
        assert word in f"{finding['what']} {finding['fix']}"
    assert not (tmp_path / "dst").exists()


@pytest.mark.parametrize(
    ("change", "stated", "words"),
    [
        (packed, {"quant_method": "awq", "bits": 4}, ["AWQ", "4 bits"]),
        (packed, {"quant_method": "gptq", "bits": 8}, ["GPTQ", "8 bits"]),
        (eight_bits, {"quant_method": "fp8"}, ["FP8"]),
        (bitsandbytes, {"quant_method": "bitsandbytes", "load_in_4bit": True}, ["bitsandbytes"]),
        (compressed, {"quant_method": "compressed-tensors"}, ["compressed-tensors"]),
        (packed, {"quant_method": "of next year"}, ["of next year"]),
        (packed, None, ["quantised"]),
    ],
)
def test_quantised_weights_are_named_by_their_method(hf, tmp_path, zoo, change, stated, words):
    tensors(hf, change)
    config(hf, quantization_config=stated)
    refused(zoo, hf, tmp_path, *words, "in 16 bits")


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("quant_config.json", {"w_bit": 4}, "AWQ"),
        ("quantize_config.json", {"bits": 4}, "GPTQ"),
        ("hf_quant_config.json", {}, "ModelOpt"),
    ],
)
def test_quantised_weights_whose_method_stands_in_a_file_of_its_own(hf, tmp_path, zoo, name, content, word):
    tensors(hf, packed)
    (hf / name).write_text(json.dumps(content))
    refused(zoo, hf, tmp_path, word)


def test_whole_weights_that_would_be_quantised_on_loading_are_converted(hf, tmp_path, zoo):
    """A merged model of a QLoRA run, whose config still says how its base was loaded."""
    config(hf, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    code, _, notes = zoo("convert", hf, tmp_path / "dst", "--to", "llama")
    assert code == 0
    assert "quantization_config" in notes
    assert "quantization_config" not in json.loads((tmp_path / "dst/config.json").read_text())


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (
            {"architectures": ["InternLMXComposer2ForCausalLM"], "model_type": "internlmxcomposer2"},
            ["InternLMXComposer2ForCausalLM", "images"],
        ),
        ({"architectures": ["InternVLChatModel"], "model_type": "internvl_chat"}, ["InternVLChatModel"]),
        ({"architectures": ["LlavaForConditionalGeneration"]}, ["LlavaForConditionalGeneration"]),
        ({"architectures": ["InternLM2MoEForCausalLM"]}, ["InternLM2MoEForCausalLM", "experts"]),
        ({"architectures": ["InternLM2ForTokenClassification"]}, ["InternLM2ForTokenClassification"]),
        ({"model_type": "qwen2_vl_vision"}, ["model_type is 'qwen2_vl_vision'"]),
    ],
)
def test_other_architectures_are_named_by_the_config(hf, tmp_path, zoo, entries, words):
    config(hf, **entries)
    tensors(hf, lambda state: {f"vit.{name}": tensor for name, tensor in state.items()})
    refused(zoo, hf, tmp_path, *words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"{WQKV}.Plora_A.weight", ["Plora_A", "XComposer2"]),
        ("vit.vision_tower.patch.weight", ["vit.vision_tower", "more than text"]),
        ("model.vision_tower.patch.weight", ["more than text"]),
        ("model.layers.0.mlp.experts.0.w1.weight", ["experts"]),
        ("v_head.summary.weight", ["TRL", "pretrained_model"]),
        (f"{WQKV}.lora_A.default.weight", ["LoRA", "merge_and_unload"]),
        ("model.layers.0.attention.rotary_emb.cos_cached", ["cos_cached", "no place"]),
        ("model.layers.0.attention.stub", ["stub", "no place"]),
    ],
)
def test_one_tensor_of_another_kind_of_model_is_named(hf, tmp_path, zoo, name, words):
    tensors(hf, lambda state: state | {name: torch.zeros(8, 32, dtype=torch.bfloat16)})
    code, _, err = zoo("convert", hf, tmp_path / "dst", "--to", "llama")
    assert code == 7
    for word in words:
        assert word in err


def test_an_adapter_with_a_whole_models_file_name_names_the_merge(hf, tmp_path, zoo):
    at = "base_model.model.model.layers.0.attention.wqkv"
    lora = {f"{at}.lora_{x}.weight": torch.zeros(8, 32, dtype=torch.bfloat16) for x in "AB"}
    tensors(hf, lambda state: lora)
    refused(zoo, hf, tmp_path, "LoRA adapter", "merge_and_unload")


@pytest.mark.parametrize("head", ["v_head.weight", "score.weight"])
def test_a_head_of_several_labels_is_not_a_reward_model(hf, tmp_path, zoo, head):
    def change(state):
        state = dict(state)
        del state["output.weight"]
        return state | {head: torch.zeros(5, 32, dtype=torch.bfloat16)}

    tensors(hf, change)
    config(hf, architectures=["InternLM2ForSequenceClassification"], num_labels=5)
    refused(zoo, hf, tmp_path, "5 rows", "several labels")


def test_weights_under_the_config_of_another_layout_are_named(tmp_path, zoo):
    src = write_hf(tmp_path / "src", make_model(DIMS), DIMS, "llama")
    config(with_tokenizer(src), model_type="internlm2", architectures=["InternLM2ForCausalLM"])
    refused(zoo, src, tmp_path, "config says internlm2", "llama/llama")


def test_a_tensor_that_is_missing_beside_one_too_many_is_still_damage(hf, tmp_path, zoo):
    def change(state):
        state = dict(state)
        return state | {"model.norm.wrong": state.pop("model.norm.weight")}

    tensors(hf, change)
    assert zoo("convert", hf, tmp_path / "dst", "--to", "llama")[0] == 6


def test_a_trainers_folder_names_the_checkpoint_below_it(hf, tmp_path, zoo):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    for step in ("checkpoint-100", "checkpoint-500"):
        (run / step).mkdir()
        save_file({"x": torch.ones(1)}, run / step / "model.safetensors")
    code, _, err = zoo("convert", run, tmp_path / "dst", "--to", "llama")
    assert code == 4
    assert str(run / "checkpoint-500") in err
