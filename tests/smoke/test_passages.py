"""What a few texts cost a model says whether it reads: as recorded of it, or as every sound model does."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import yaml

from internlm_zoo.smoke.passages import encode_passages, passage_losses, passages
from tests.loading.demo import MODELS, edit_json, home_of, load_model, nameless, rewritten

BASE, CHAT = MODELS
BASE_TOO = [CHAT, pytest.param(BASE, marks=pytest.mark.slow)]


def check_of(result, name="passages"):
    return next(check for check in result["checks"] if check["name"] == name)


def test_passages_are_of_two_languages_code_and_a_conversation_each_with_its_source():
    found = {one.name: one for one in passages()}
    assert {"English", "Chinese", "Python"} <= {one.language for one in found.values()}
    assert found["chat"].turns and all(one.source for one in found.values())
    for one in found.values():
        assert one.turns or 100 <= len(one.text or "") <= 700


@pytest.mark.parametrize("model", BASE_TOO)
def test_a_loss_is_what_torch_makes_of_one_text_after_the_other(directories, tmp_path, model):
    """One at a time, by transformers' own loss, without padding."""
    import torch

    loaded = load_model(directories[model, "hf"], settings=home_of(tmp_path), dtype="float32", known_as=model)
    encoded = encode_passages(loaded)
    found = passage_losses(loaded, encoded)
    assert ("chat" in {one.passage.name for one in encoded}) == (model == CHAT)
    for one in encoded:
        ids = torch.tensor([one.ids])
        with torch.inference_mode():
            mean = float(loaded.model(input_ids=ids, labels=ids).loss)
        nats = mean * (len(one.ids) - 1) / one.characters
        assert found[one.passage.name] == pytest.approx(nats, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("known", [True, False])
def test_a_demo_model_reads_as_recorded_and_as_any_sound_model(smoke, directories, tmp_path, model, known):
    folder = nameless(directories[model, "hf"], tmp_path)
    code, result = smoke(folder, *(("--as", model) if known else ()))
    assert code == 0, result["sentence"]
    assert ("recorded: " if known else "sound: at most ") in check_of(result)["sentence"]


@pytest.mark.parametrize("width", [0.01, pytest.param(0.3, marks=pytest.mark.slow)])
def test_random_weights_cost_twice_the_limit_and_more(smoke, directories, tmp_path, width):
    def randomise(tensors):
        random = np.random.default_rng(0)
        for name, tensor in tensors.items():
            values = (random.standard_normal(tensor.shape) * width).astype(np.float32)
            tensors[name] = (values.view(np.uint32) >> 16).astype(np.uint16)

    folder = nameless(directories[CHAT, "llama"], tmp_path)
    code, result = smoke(rewritten(folder, tmp_path / "random", randomise))
    said = check_of(result)
    assert code == 1 and not said["ok"] and said["cause"] is None
    assert float(said["sentence"].partition(" costs ")[2].split()[0]) > 1.5


@pytest.mark.slow
def test_a_loss_that_is_better_than_recorded_is_another_model(smoke, directories, tmp_path, monkeypatch):
    overlay = tmp_path / "overlay.yaml"
    assert smoke(CHAT, "--record", overlay)[0] == 0
    document = yaml.safe_load(overlay.read_text())
    document["models"][CHAT]["smoke"]["passages"]["fable"]["nats"] += 0.1
    overlay.write_text(yaml.safe_dump(document))
    monkeypatch.setenv("INTERNLM_ZOO_REGISTRY", str(overlay))
    code, result = smoke(CHAT)
    assert code == 1 and "the passage 'fable' costs" in check_of(result)["sentence"]


def test_what_is_recorded_is_what_the_next_run_is_held_against(smoke, directories, tmp_path, monkeypatch):
    overlay = tmp_path / "overlay.yaml"
    code, _ = smoke(directories[CHAT, "llama"], "--record", overlay)
    assert code == 0
    entry = yaml.safe_load(overlay.read_text())["models"][CHAT]
    assert len(entry["fingerprint"]) == 64
    rows = entry["smoke"]["passages"]
    assert set(rows) == {one.name for one in passages()}
    assert all(math.isfinite(row["nats"]) and len(row["tokens"]) == 64 for row in rows.values())
    monkeypatch.setenv("INTERNLM_ZOO_REGISTRY", str(overlay))
    code, result = smoke(directories[CHAT, "hf"])
    assert code == 0 and "recorded: " in check_of(result)["sentence"]


@pytest.mark.slow
def test_a_tokenizer_that_makes_other_tokens_than_recorded_is_blamed(
    smoke, directories, tmp_path, monkeypatch
):
    overlay = tmp_path / "overlay.yaml"
    assert smoke(CHAT, "--record", overlay)[0] == 0
    document = yaml.safe_load(overlay.read_text())
    document["models"][CHAT]["smoke"]["passages"]["code"]["tokens"] = "0" * 64
    overlay.write_text(yaml.safe_dump(document))
    monkeypatch.setenv("INTERNLM_ZOO_REGISTRY", str(overlay))
    code, result = smoke(CHAT)
    assert code == 1 and "other tokens of the passage 'code'" in result["sentence"]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("--all", "--miniature"), 2, "it records one model"),
        ((BASE, "--miniature"), 2, "random weights are not recorded"),
    ],
)
def test_what_cannot_be_recorded_is_refused(smoke, tmp_path, args, code, says):
    found, error = smoke(*args, "--record", tmp_path / "overlay.yaml")
    assert found == code and says in error["what"]
    assert not (tmp_path / "overlay.yaml").exists()


def test_a_recording_replaces_nothing_and_is_of_a_model_with_a_name_and_its_weights(
    smoke, directories, tmp_path
):
    there, new = tmp_path / "there.yaml", tmp_path / "new.yaml"
    there.write_text("mine")
    assert smoke(CHAT, "--record", there)[0] == 2 and there.read_text() == "mine"
    folder = nameless(directories[CHAT, "llama"], tmp_path)
    assert smoke(folder, "--record", new)[0] == 2

    def train(tensors):
        tensors["model.layers.1.mlp.up_proj.weight"] ^= 1

    code, error = smoke(rewritten(folder, tmp_path / "trained", train), "--as", CHAT, "--record", new)
    assert code == 6 and "not those that the registry has" in error["what"]
    assert not new.exists()


def test_a_model_that_fails_is_not_recorded(smoke, directories, tmp_path):
    folder = shutil.copytree(directories[CHAT, "llama"], tmp_path / "wrong")
    edit_json(folder / "config.json", rope_theta=10000)
    assert smoke(folder, "--record", tmp_path / "new.yaml")[0] == 1
    assert not (tmp_path / "new.yaml").exists()
