"""A reward model has to prefer right answers; random weights fail, and what cannot be judged says so."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from internlm_zoo.loading.generate import encode_turns
from internlm_zoo.smoke.reward import LEAST, PAIRS
from tests.loading.demo import MODELS, edit_json, home_of, load_model, nameless, rewritten

CHAT = MODELS[1]
TOKEN = 1234
LAYERS = 3  # so that it has the shape of no model that is known
HEAD = "v_head.weight"


def bfloat16(values):
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def with_head(tensors, head):
    for name in [
        name for name in tensors if name.startswith(f"model.layers.{LAYERS}.") or name == "output.weight"
    ]:
        del tensors[name]
    tensors[HEAD] = bfloat16(head.reshape(1, -1))


def last_states(folder, tmp_path, answers):
    """What its layers make of the reward token after each answer."""
    loaded = load_model(folder, settings=home_of(tmp_path), dtype="float32")
    found = []
    for question, answer in answers:
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        ids = [*encode_turns(loaded, turns, answer=False), TOKEN]
        with torch.inference_mode():
            found.append(loaded.model.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1])
    return torch.stack(found).numpy()


@pytest.fixture(scope="module")
def rewards(directories, tmp_path_factory):
    """Trained layers with a head that tells right from wrong by what they make of it, and with one that is
    the wrong way round."""
    folder = tmp_path_factory.mktemp("rewards")
    chat = nameless(directories[CHAT, "hf"], folder)
    blank = rewritten(chat, folder / "blank", lambda tensors: with_head(tensors, np.ones(128)))
    names = {
        "architectures": ["InternLM2ForRewardModel"],
        "reward_token_id": TOKEN,
        "num_hidden_layers": LAYERS,
    }
    edit_json(blank / "config.json", **names)
    right = last_states(blank, folder, [(pair.question, pair.right) for pair in PAIRS])
    wrong = last_states(blank, folder, [(pair.question, pair.wrong) for pair in PAIRS])
    head = np.linalg.lstsq(right - wrong, np.ones(len(PAIRS)), rcond=None)[0]
    made = {"blank": blank}
    for name, values in (("sound", head), ("turned", -head)):
        made[name] = rewritten(
            blank, folder / name, lambda tensors, v=values: tensors.update({HEAD: bfloat16(v[None])})
        )
    return made


def test_a_reward_model_that_prefers_right_answers_passes(smoke, rewards):
    code, result = smoke(rewards["sound"])
    assert code == 0, result["sentence"]
    assert f"it prefers {len(PAIRS)} of {len(PAIRS)} right answers" in result["sentence"]
    assert result["judged"]


def test_one_that_prefers_wrong_answers_fails_and_shows_one(smoke, rewards):
    code, result = smoke(rewards["turned"])
    assert code == 1
    assert f"of {len(PAIRS)} right answers (at least {LEAST})" in result["sentence"]
    assert PAIRS[0].right[:20] in result["sentence"] and "not its own" in result["sentence"]


def test_random_layers_fail_whatever_the_head_prefers(smoke, rewards, tmp_path):
    def randomise(tensors):
        random = np.random.default_rng(1)
        for name, tensor in tensors.items():
            if tensor.ndim > 1 and name != HEAD:
                tensors[name] = bfloat16(random.standard_normal(tensor.shape) * 0.05)

    code, result = smoke(rewritten(rewards["sound"], tmp_path / "random", randomise))
    assert code == 1 and "the weights are random" in result["sentence"]


def test_what_scores_something_else_cannot_be_judged_and_strictly_fails(smoke, zoo, rewards):
    as_polar = ("--as", "polar-1.8b", "--set", f"reward_token_id={TOKEN}")
    code, result = smoke(rewards["sound"], *as_polar)
    assert (code, result["ok"], result["judged"]) == (0, True, False), result["sentence"]
    assert result["sentence"].startswith("cannot judge: polar-1.8b does not score answers")
    code, out, err = zoo("smoke", rewards["sound"], *as_polar)
    assert code == 0 and "cannot judge" in out and "1 cannot be judged" in err
    code, result = smoke(rewards["sound"], *as_polar, "--strict")
    assert (code, result["ok"]) == (1, False) and "cannot judge" in result["sentence"]


def test_pairs_are_in_two_languages_and_no_answer_is_both():
    chinese = sum(any("\u4e00" <= letter <= "\u9fff" for letter in pair.question) for pair in PAIRS)
    assert chinese == len(PAIRS) / 2
    answers = [answer for pair in PAIRS for answer in (pair.right, pair.wrong)]
    assert len({*answers}) == len(answers)


def test_the_document_counts_what_cannot_be_judged(zoo, rewards):
    document = json.loads(
        zoo("smoke", rewards["sound"], "--as", "polar-1.8b", "--set", f"reward_token_id={TOKEN}", "--json")[1]
    )
    assert (document["passed"], document["failed"], document["unjudged"]) == (0, 0, 1)
