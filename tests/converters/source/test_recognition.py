"""A fact that a checkpoint leaves open leads to the model that it may be, and the registry says the rest."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import internlm_zoo
from internlm_zoo.checkpoints.facts import known_facts
from internlm_zoo.errors import UsageError
from internlm_zoo.registry import read_registry
from tests.converters.oracle import INTERNLM, INTERNLM2, make_model, write_original

SHAPE = (
    "hidden_size: 128, num_layers: 3, num_attention_heads: 16, num_kv_heads: 8, intermediate_size: 192, "
    "vocab_size: 64, attention_bias: false, rope_theta: 1000000"
)
MODELS = """
models:
  tiny: {display_name: T, family: internlm2, size: 1m, kind: base, architecture: &tiny {%s},
         special_tokens: &none {plugin: {id: null}, interpreter: {id: null}, action_start: {id: null},
         action_end: {id: null}, turn_start: {id: null}, turn_end: {id: null}}, tokenizer: {pieces: 64},
         released_config: {max_position_embeddings: 4321}}
  tiny-chat: {display_name: T, family: internlm2, size: 1m, kind: chat, architecture: *tiny,
         special_tokens: *none, tokenizer: {pieces: 64}, released_config: {max_position_embeddings: 4321}}
  tiny-long: {display_name: T, family: internlm2, size: 1m, kind: chat, architecture: *tiny,
         special_tokens: *none, tokenizer: {pieces: 64}, released_config: {max_position_embeddings: %s}}
  tiny-silent: {display_name: T, family: internlm2, size: 1m, kind: chat, architecture: *tiny,
         special_tokens: *none, tokenizer: {pieces: 64}}
"""


@pytest.fixture
def overlay(tmp_path, monkeypatch):
    def write(long: int = 4321) -> None:
        (tmp_path / "my.yaml").write_text(MODELS % (SHAPE, long))
        monkeypatch.setenv("INTERNLM_ZOO_REGISTRY", str(tmp_path / "my.yaml"))

    write()
    return write


@pytest.fixture
def silent(tmp_path):
    """A checkpoint that does not say for how many positions it was made."""
    return write_original(
        tmp_path / "src", make_model(INTERNLM2), INTERNLM2, tp=2, max_position_embeddings=None
    )


def test_the_refusal_names_the_model_whose_shape_it_has_and_its_advice_works(zoo, overlay, silent, tmp_path):
    for args in (["--to", "hf"], ["--to", "llama"], ["--to", "hf", "--dry-run"]):
        code, _, err = zoo("convert", silent, tmp_path / "dst", *args)
        assert code == 2 and "max_position_embeddings is stated neither" in err
        assert "this has the shape of tiny and 2 more: --as tiny; or give it with --set" in " ".join(
            err.split()
        )
    assert zoo("convert", silent, tmp_path / "dst", "--to", "hf", "--as", "tiny")[0] == 0
    assert json.loads((tmp_path / "dst/config.json").read_text())["max_position_embeddings"] == 4321
    record = json.loads((tmp_path / "dst/conversion.json").read_text())
    assert record["facts"]["max_position_embeddings"]["origin"] == "registry"


def test_models_of_one_shape_that_differ_in_the_fact_are_told_apart(zoo, overlay, silent, tmp_path):
    overlay(long=262144)
    _, _, err = zoo("convert", silent, tmp_path / "dst", "--to", "hf")
    told = " ".join(err.split())
    assert (
        "the shape of tiny and 1 more (4321), or of tiny-long (262144): say which, as with --as tiny" in told
    )


def test_a_model_of_which_the_registry_does_not_know_it_is_said_to_be_one(zoo, overlay, silent, tmp_path):
    code, _, err = zoo("convert", silent, tmp_path / "dst", "--to", "hf", "--as", "tiny-silent")
    told = " ".join(err.split())
    assert code == 2 and "the registry does not say it of tiny-silent: give it with --set" in told
    assert "--as MODEL" not in told


def test_a_checkpoint_of_no_known_shape_is_pointed_to_as_first(zoo, silent, tmp_path):
    _, _, err = zoo("convert", silent, tmp_path / "dst", "--to", "hf")
    told = " ".join(err.split())
    assert told.index("--as MODEL") < told.index("--set max_position_embeddings=VALUE")


def test_what_no_registry_could_say_is_asked_for_without_a_detour(zoo, tmp_path):
    """Which half of the MLP is which, where all of its sizes are one, is a matter of the file."""
    dims = replace(INTERNLM, inter=32)
    src = write_original(tmp_path / "src", make_model(dims), dims)
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "hf")
    assert code == 2 and "mlp_order" in err and "--as" not in err


def test_head_counts_that_a_checkpoint_leaves_open_are_the_models(zoo, overlay, tmp_path):
    src = write_original(
        tmp_path / "src",
        make_model(INTERNLM2),
        INTERNLM2,
        num_attention_heads=None,
        num_kv_attention_heads=None,
    )
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "hf")
    assert code == 2 and "num_attention_heads" in err and "--as MODEL" in err
    assert zoo("convert", src, tmp_path / "dst", "--to", "hf", "--as", "tiny")[0] == 0
    written = json.loads((tmp_path / "dst/config.json").read_text())
    assert (written["num_attention_heads"], written["num_key_value_heads"]) == (16, 8)


def test_loading_asks_in_the_same_words(overlay, silent, tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(UsageError) as caught:
        internlm_zoo.load(silent, devices=["cpu"])
    assert "this has the shape of tiny and 2 more: `known_as='tiny'`" in caught.value.fix


def test_a_comparison_of_logits_asks_so_too_and_takes_the_answer(zoo, overlay, silent, tmp_path):
    pytest.importorskip("transformers")
    assert zoo("convert", silent, tmp_path / "hf", "--to", "hf", "--as", "tiny")[0] == 0
    code, _, err = zoo("compare", silent, tmp_path / "hf", "--logits")
    assert code == 2 and "this has the shape of tiny and 2 more: --as tiny" in " ".join(err.split())
    assert zoo("compare", silent, tmp_path / "hf", "--logits", "--as", "tiny")[0] == 0


def test_inspect_says_which_models_it_may_be_until_it_is_told(zoo, overlay, silent):
    shape = "this has the shape of tiny and 3 more; --as MODEL says which it is"
    assert shape in " ".join(zoo("inspect", silent)[2].split())
    assert "the shape of" not in zoo("inspect", silent, "--as", "tiny")[2]
    assert shape in json.loads(zoo("inspect", silent, "--json")[1])["notes"]


def test_the_registry_gives_the_config_value_never_the_claimed_one():
    registry = read_registry()
    lengths = {
        "internlm-20b": 4096,
        "internlm-chat-7b": 2048,
        "internlm-chat-7b-8k": 2048,
        "internlm2-chat-7b": 32768,
        "internlm2.5-7b": 262144,
        "internlm2.5-7b-chat-1m": 262144,
        "internlm3-8b-instruct": 32768,
    }
    for name, length in lengths.items():
        assert known_facts(registry.model(name), registry)["max_position_embeddings"] == length
    assert "rope_scaling" not in known_facts(registry.model("internlm2-chat-7b"), registry), (
        "it differs by revision"
    )
    assert known_facts(registry.model("internlm2.5-7b-chat-1m"), registry)["rope_scaling"]["factor"] == 2.5
