"""A reward model gives a conversation the score that the released models' own code gives it, and writes
nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import internlm_zoo as zoo
import internlm_zoo as zoo_api
from internlm_zoo.demo.environment import BUNDLED
from tests.converters.oracle import INTERNLM2, make_model, write_hf
from tests.loading.demo import MODELS, edit_config, home_of

BASE, CHAT = MODELS
DIMS = replace(INTERNLM2, layers=2, vocab=2048)
TOKEN = 1234
TURNS = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris."},
]


@pytest.fixture(scope="module")
def reward(tmp_path_factory):
    """A reward model of random weights in the format of the released ones, and the same in Llama's."""
    folder = tmp_path_factory.mktemp("reward")
    names = {"architectures": ["InternLM2ForRewardModel"], "reward_token_id": TOKEN}
    src = write_hf(folder / "hf", make_model(DIMS), DIMS, **names)
    tensors = load_file(src / "model.safetensors")
    del tensors["output.weight"]
    tensors["v_head.weight"] = torch.rand(1, DIMS.hidden).bfloat16()
    save_file(tensors, src / "model.safetensors")
    shutil.copy(BUNDLED / CHAT / "tokenizer.model", src)
    zoo.convert(src, folder / "llama", to="llama", settings=home_of(folder))
    return folder


def expected(folder, ids, token=TOKEN):
    """By stock transformers; and by hand, the last hidden state times the head."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder / "llama", dtype=torch.float32).eval()
    rows = torch.tensor([[*ids, token]])
    with torch.inference_mode():
        score = float(model(input_ids=rows).logits[0, 0])
        by_hand = float(model.model(input_ids=rows).last_hidden_state[0, -1] @ model.score.weight[0])
    assert score == pytest.approx(by_hand, rel=1e-5)
    return score


def tokens_of(folder, turns):
    """The conversation as InternLM2's chat format writes it, a turn after the other."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "llama")
    text = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns)
    return tokenizer.encode("<s>" + text, add_special_tokens=False)


@pytest.mark.parametrize("form", ["hf", "llama"])
def test_the_score_is_that_of_the_reward_token_after_the_conversation(reward, tmp_path, form):
    ids = tokens_of(reward, TURNS)
    found = zoo_api.score(reward / form, TURNS, dtype="float32", devices=["cpu"], settings=home_of(tmp_path))
    assert found == pytest.approx(expected(reward, ids), rel=1e-6)


def test_the_command_prints_one_line_for_each_conversation(reward, tmp_path, zoo):
    other = [TURNS[0], {"role": "assistant", "content": "Bananas."}]
    for name, turns in (("good", TURNS), ("bad", other)):
        (tmp_path / f"{name}.json").write_text(json.dumps(turns))
    wanted = [expected(reward, tokens_of(reward, turns)) for turns in (TURNS, other)]
    files = ("--chat", tmp_path / "good.json", "--chat", tmp_path / "bad.json")
    code, out, _ = zoo("score", reward / "hf", *files, "--dtype", "float32")
    assert code == 0 and out == "".join(f"{value:.4f}\n" for value in wanted)
    turns = ("-p", TURNS[0]["content"], "--answer", TURNS[1]["content"])
    code, out, _ = zoo("score", reward / "hf", *turns, "--dtype", "float32", "--json")
    assert json.loads(out)["scores"] == [pytest.approx(wanted[0], rel=1e-6)]


def test_a_prompt_alone_is_a_users_turn_and_a_raw_text_no_turn(reward, zoo):
    from transformers import AutoTokenizer

    text = "Say hello."
    alone = expected(reward, tokens_of(reward, [{"role": "user", "content": text}]))
    code, out, _ = zoo("score", reward / "hf", "-p", text, "--dtype", "float32")
    assert (code, out) == (0, f"{alone:.4f}\n")
    raw = expected(reward, AutoTokenizer.from_pretrained(reward / "llama").encode(text))
    code, out, _ = zoo("score", reward / "hf", "-p", text, "--raw", "--dtype", "float32")
    assert (code, out) == (0, f"{raw:.4f}\n")


def test_generate_refuses_a_reward_model_by_its_headers_and_names_score(reward, zoo):
    code, out, err = zoo("generate", reward / "hf", "-p", "x")
    assert (code, out) == (7, "")
    assert "reward model" in err and "internlm-zoo score" in err


def test_score_refuses_a_model_that_writes(directories, zoo):
    code, out, err = zoo("score", directories[BASE, "hf"], "-p", "x")
    assert (code, out) == (7, "") and "no reward model" in err and "generate" in err


def test_the_token_may_be_given_and_is_asked_for_where_nobody_knows_it(reward, tmp_path, zoo):
    folder = tmp_path / "silent"
    shutil.copytree(reward / "llama", folder)
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("reward_token_id") == TOKEN  # it went along to Llama's format
    (folder / "config.json").write_text(json.dumps(config))
    code, _, err = zoo("score", folder, "-p", "x")
    assert code == 2 and "--set reward_token_id=" in err
    given = zoo("score", folder, "-p", "x", "--set", f"reward_token_id={TOKEN}")
    assert given[:2] == zoo("score", reward / "llama", "-p", "x")[:2]
    edit_config(folder, reward_token_id=92527)
    code, _, err = zoo("score", folder, "-p", "x")
    assert code == 2 and "92527" in err and "2048" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give a prompt"),
        (("-p", "x", "--chat", "turns.json"), "give a prompt"),
        (("--chat", "turns.json", "--answer", "y"), "go with -p"),
        (("-p", "x", "--answer", "y", "--raw"), "no turns"),
        (("--chat", "turns.json"), "no conversation"),
        (("--chat", "broken.json"), "no JSON"),
    ],
)
def test_what_cannot_be_scored_is_a_usage_error(reward, tmp_path, zoo, arguments, says):
    (tmp_path / "turns.json").write_text('[{"role": "user"}]')
    (tmp_path / "broken.json").write_text("[")
    named = [tmp_path / word if word.endswith(".json") else word for word in arguments]
    code, _, err = zoo("score", reward / "hf", *named)
    assert code == 2 and says in err and "Traceback" not in err
    assert zoo("score", reward / "hf", "--chat", tmp_path / "nowhere.json")[0] == 4


def test_smoke_fails_a_reward_model_of_random_weights(reward, zoo):
    code, out, _ = zoo("smoke", reward / "hf", "--json")
    (result,) = json.loads(out)["results"]
    assert code == 1 and "the weights are random" in result["sentence"]
    assert "right answers" in result["checks"][-1]["sentence"]


def test_the_score_is_the_same_where_layers_stay_on_disk(reward, tmp_path):
    ask = {"context": 64, "settings": home_of(tmp_path)}
    whole = zoo.plan_load(reward / "hf", **ask)
    room = max(part.nbytes for part in whole.placement.parts) * 4 // 5
    plan = zoo.plan_load(reward / "hf", max_memory=room, **ask)
    assert plan.placement.on_disk and plan.placement.on_disk.head
    assert zoo.score(plan, TURNS) == zoo.score(whole, TURNS)
