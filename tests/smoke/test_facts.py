"""Before a weight is read: a model whose files contradict its name fails, and the field is named."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.loading.demo import MODELS, edit_json, nameless

BASE, CHAT = MODELS
CONFIG, GENERATION, SETTINGS = "config.json", "generation_config.json", "tokenizer_config.json"
OTHER_HEADS = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 8}


def only_facts(result):
    """No other check has run, and so no forward pass."""
    assert [check["name"] for check in result["checks"]] == ["facts"]
    return result["sentence"]


@pytest.mark.parametrize(
    ("file", "changes", "says"),
    [
        (CONFIG, {"rope_theta": 10000}, "rope_theta: expected 1000000.0, found 10000 (config.json)"),
        (CONFIG, {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling: expected None, found"),
        (CONFIG, {"rms_norm_eps": 1e-6}, "rms_norm_eps: expected 1e-05, found 1e-06"),
        (CONFIG, {"max_position_embeddings": 4096}, "max_position_embeddings: expected 256, found 4096"),
        (CONFIG, OTHER_HEADS, "num_attention_heads: expected 8, found 16"),
        (CONFIG, OTHER_HEADS, "num_kv_heads: expected 4, found 8"),
        (CONFIG, {"bos_token_id": 3}, "bos_token_id: expected 1, found 3 (config.json)"),
        (CONFIG, {"pad_token_id": 0}, "pad_token_id: expected 2, found 0 (config.json)"),
        (CONFIG, {"eos_token_id": 5}, "eos_token_id: expected 2 or 2046, found 5 (config.json)"),
        (
            GENERATION,
            {"eos_token_id": 5},
            "eos_token_id: expected 2 or 2046, found 5 (generation_config.json)",
        ),
        (
            GENERATION,
            {"eos_token_id": 2},
            "eos_token_id: expected [2, 2046], found 2 (generation_config.json)",
        ),
        (GENERATION, {"bos_token_id": 3}, "bos_token_id: expected 1, found 3 (generation_config.json)"),
        (GENERATION, {"pad_token_id": 0}, "pad_token_id: expected 2, found 0 (generation_config.json)"),
        (SETTINGS, {"eos_token": "<unk>"}, "eos_token: expected </s> or <|im_end|>, found <unk>"),
        (
            SETTINGS,
            {"chat_template": "{{ messages[0]['content'] }}"},
            "chat_template: expected '<s><|im_start|>",
        ),
    ],
)
def test_every_field_that_is_wrong_is_named_with_what_was_expected(
    smoke, directories, tmp_path, file, changes, says
):
    folder = shutil.copytree(directories[CHAT, "llama"], tmp_path / "wrong")
    edit_json(folder / file, **changes)
    code, result = smoke(folder)  # its record says which model it is
    assert code == 1
    assert says in only_facts(result)


def test_exchanged_special_tokens_are_named(smoke, directories, tmp_path):
    folder = shutil.copytree(directories[CHAT, "llama"], tmp_path / "wrong")
    file = folder / "tokenizer.json"
    text = file.read_text().replace("<|im_end|>", "<|-|>").replace("<|plugin|>", "<|im_end|>")
    file.write_text(text.replace("<|-|>", "<|plugin|>"))
    (folder / SETTINGS).unlink()
    code, result = smoke(folder)
    assert code == 1
    assert "the id of <|im_end|>: expected 2046, found 2042 (tokenizer.json)" in only_facts(result)


def test_a_small_chat_model_is_no_large_reward_model(smoke, directories):
    code, result = smoke(directories[CHAT, "llama"], "--as", "internlm2-20b-reward")
    said = only_facts(result)
    assert code == 1
    for field in (
        "kind",
        "hidden_size",
        "num_layers",
        "num_attention_heads",
        "intermediate_size",
        "vocab_size",
    ):
        assert f"{field}: expected " in said


def test_a_model_that_nothing_names_is_held_against_those_of_its_shape(smoke, directories, tmp_path):
    folder = nameless(directories[CHAT, "llama"], tmp_path)
    edit_json(folder / CONFIG, rope_theta=10000)
    code, result = smoke(folder)
    assert code == 1
    assert f"not {CHAT}, whose shape it has: rope_theta: expected" in only_facts(result)
    assert smoke(folder, "--set", "rope_theta=1000000")[0] == 0  # what a user says needs no registry


def test_an_eos_of_the_original_format_and_a_derived_generation_config_contradict_nothing(
    smoke, directories, tmp_path
):
    """As released: config.json names eos alone, and transformers derived generation_config.json from it."""
    folder = shutil.copytree(directories[CHAT, "llama"], tmp_path / "released")
    edit_json(folder / CONFIG, eos_token_id=2)
    edit_json(folder / GENERATION, eos_token_id=2, _from_model_config=True)
    assert smoke(folder)[0] == 0


def test_inspect_names_what_contradicts_the_model_that_is_named(zoo, directories, tmp_path):
    folder = shutil.copytree(directories[CHAT, "llama"], tmp_path / "wrong")
    assert zoo("inspect", folder)[0] == 0
    edit_json(folder / CONFIG, rope_theta=10000)
    code, out, _ = zoo("inspect", folder, "--json")
    whats = [one["what"] for one in json.loads(out)["findings"]]
    assert code == 1 and any(
        f"not {CHAT}: rope_theta: expected 1000000.0, found 10000" in one for one in whats
    )
