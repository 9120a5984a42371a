"""What cannot be a sound model's values is named by tensor and cause, before any of them is used."""

from __future__ import annotations

import json

import numpy as np
import pytest

import internlm_zoo
from tests.loading.demo import MODELS, home_of, nameless, rewritten

BASE, CHAT = MODELS
ONE, EIGHTFOLD = 0x3F80, 3 << 7  # bfloat16: one, and three added to the exponent


def copy_a_matrix(tensors):
    tensors["model.layers.2.mlp.up_proj.weight"] = tensors["model.layers.1.mlp.up_proj.weight"].copy()


def lose_rows_of_the_embedding(tensors):
    tensors["model.embed_tokens.weight"][100:120] = 0


def lose_the_last_rows_of_the_head(tensors):
    tensors["lm_head.weight"][-256:] = 0


def lose_a_norm(tensors):
    tensors["model.layers.1.input_layernorm.weight"][:] = ONE


def lose_the_head(tensors):
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()


def lose_a_rank(tensors):
    tensors["model.layers.0.mlp.down_proj.weight"][:, 128:] = 0


def add_up_a_rank_eight_times(tensors):
    tensors["model.layers.3.self_attn.o_proj.weight"][:, 32:64] += EIGHTFOLD


def mistake_rows_of_a_rank(tensors):
    tensors["model.layers.3.mlp.gate_proj.weight"][224:] += EIGHTFOLD


FAULTS = [
    (
        copy_a_matrix,
        "layers.2.mlp.up.weight",
        "the same values as layers.1.mlp.up.weight: one of the two layers",
    ),
    (
        lose_rows_of_the_embedding,
        "embed.weight",
        "20 of its 2,048 rows are zero, that of token 100 the first",
    ),
    (lose_the_last_rows_of_the_head, "head.weight", "256 of its 2,048 rows are zero, that of token 1792"),
    (lose_a_norm, "layers.1.attention_norm.weight", "all of its values are 1, as before any training"),
    (lose_the_head, "head.weight", "the same values as embed.weight: the head was lost"),
    (lose_a_rank, "layers.0.mlp.down.weight", "columns 128 to 255, the part of rank 1 of 2, are 0 times"),
    (
        add_up_a_rank_eight_times,
        "layers.3.attention.o.weight",
        "columns 32 to 63, the part of rank 1 of 4",
    ),
    (mistake_rows_of_a_rank, "layers.3.mlp.gate.weight", "rows 224 to 255, the part of rank 7 of 8"),
]


@pytest.mark.parametrize(("fault", "tensor", "what"), FAULTS)
def test_a_fault_in_values_is_named_by_inspect_with_tensor_and_cause(
    zoo, directories, tmp_path, fault, tensor, what
):
    folder = rewritten(directories[CHAT, "llama"], tmp_path / "faulty", fault)
    assert json.loads(zoo("inspect", folder, "--json")[1])["findings"] == []
    code, out, _ = zoo("inspect", folder, "--deep", "--json")
    (found,) = json.loads(out)["findings"]
    assert (code, found["where"]) == (1, tensor)
    assert what in found["what"]


def test_smoke_names_the_fault_in_its_sentence(smoke, directories, tmp_path):
    folder = rewritten(nameless(directories[CHAT, "llama"], tmp_path), tmp_path / "faulty", lose_a_norm)
    code, result = smoke(folder)
    assert code == 1
    assert result["sentence"].startswith("layers.1.attention_norm.weight: all of its values are 1")


@pytest.mark.parametrize("form", ["original tp2 pp2", "llama"])
@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_wrong_with_the_values_of_a_demo_model(directories, tmp_path, model, form):
    found = internlm_zoo.inspect(
        directories[model, form], deep=True, known_as=model, settings=home_of(tmp_path)
    )
    assert found.findings == ()


def test_rows_that_make_a_vocabulary_longer_are_zero_by_right(zoo, directories, tmp_path):
    padded = tmp_path / "padded"
    how = ("--to", "llama", "--pad-vocab-to-multiple", 1500)
    assert zoo("convert", directories[CHAT, "llama"], padded, *how)[0] == 0
    assert zoo("inspect", padded, "--deep")[0] == 0


def gaussian(values, random):
    return random.standard_normal(values.shape) * 0.02


def uniform_by_width(values, random):
    return (random.random(values.shape) * 2 - 1) * np.sqrt(3 / values.shape[-1])


def shuffled(values, random):
    """The trained values themselves, in any order."""
    return random.permutation(values.reshape(-1)).reshape(values.shape)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(gaussian, marks=pytest.mark.slow),
        pytest.param(uniform_by_width, marks=pytest.mark.slow),
        shuffled,
    ],
)
@pytest.mark.usefixtures("no_search")
def test_random_weights_of_any_kind_fail_as_such(smoke, directories, tmp_path, kind):
    random = np.random.default_rng(0)

    def randomise(tensors):
        for name, tensor in tensors.items():
            if tensor.ndim > 1:
                values = (tensor.astype(np.uint32) << 16).view(np.float32)
                drawn = kind(values, random).astype(np.float32)
                tensors[name] = (drawn.view(np.uint32) >> 16).astype(np.uint16)

    folder = rewritten(nameless(directories[BASE, "llama"], tmp_path), tmp_path / "random", randomise)
    code, result = smoke(folder)
    assert code == 1
    assert "the weights are random" in result["sentence"]
