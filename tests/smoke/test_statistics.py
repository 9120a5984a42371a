"""Limits for models without golden data: a trained model is inside them, broken ones are not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from internlm_zoo.smoke.statistics import distinct_share, relative_entropy
from tests.loading.demo import MODELS, nameless, rewritten

pytestmark = pytest.mark.usefixtures("no_search")
BASE = MODELS[0]


@pytest.mark.parametrize("model", MODELS)
def test_a_trained_model_that_nothing_is_known_of_passes(smoke, directories, tmp_path, model):
    code, result = smoke(nameless(directories[model, "llama"], tmp_path))
    assert code == 0, result["sentence"]
    names = {"facts", "values", "finite", "entropy", "repetition", "utf-8", "passages"}
    assert {check["name"] for check in result["checks"]} == names


def spoil(tensors):
    tensors["model.norm.weight"][0] = 0x7FC0  # NaN in bfloat16


def randomise(tensors):
    random = np.random.default_rng(0)
    for name, tensor in tensors.items():
        values = (random.standard_normal(tensor.shape) * 0.01).astype(np.float32)
        tensors[name] = (values.view(np.uint32) >> 16).astype(np.uint16)


def make_it_sure_of_one_token(tensors):
    """Every row of the head but one is zero, and the norm is large."""
    head = tensors["lm_head.weight"]
    head[np.arange(len(head)) != 300] = 0
    tensors["model.norm.weight"][:] = 0x4680  # 16384


@pytest.mark.parametrize(
    ("fault", "says", "behaves"),
    [
        (spoil, "values are NaN", "logits that are not finite"),
        (randomise, "the weights are random", "does not predict text"),
        (make_it_sure_of_one_token, "of its 1,792 rows are zero", "of trigrams differ"),
    ],
)
def test_a_broken_model_that_nothing_is_known_of_fails_with_its_reason(
    smoke, directories, tmp_path, fault, says, behaves
):
    folder = nameless(directories[BASE, "llama"], tmp_path)
    code, result = smoke(rewritten(folder, tmp_path / "broken", fault))
    assert code == 1
    assert says in result["sentence"], result["sentence"]
    later = {check["name"]: check["sentence"] for check in result["checks"] if not check["ok"]}
    assert any(behaves in said for said in later.values()), later


def test_entropy_is_one_for_a_uniform_guess_and_zero_for_a_certain_one():
    import torch

    assert math.isclose(relative_entropy(torch.zeros(1000)), 1.0)
    certain = torch.zeros(1000)
    certain[3] = 1e4
    assert relative_entropy(certain) == pytest.approx(0.0, abs=1e-9)
    half = torch.full((1000,), -1e4)
    half[:10] = 0  # ten equal chances among a thousand: log 10 / log 1000
    assert relative_entropy(half) == pytest.approx(1 / 3)


def test_repetition_counts_different_trigrams():
    assert distinct_share(range(10)) == 1.0
    assert distinct_share([7] * 10) == pytest.approx(1 / 8)
    assert distinct_share([1, 2]) == 1.0
