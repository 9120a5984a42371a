"""`compare --logits`: both sides are run, and what they predict is held against each other."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

import converters
from tests.converters.oracle import BOTH, INTERNLM2, make_model, write_hf, write_original


def compare(zoo, one, other, *options):
    code, out, _ = zoo("compare", one, other, "--logits", "--json", *options)
    return code, json.loads(out)


@pytest.mark.parametrize("dims", BOTH, ids=lambda dims: dims.family)
def test_a_conversion_predicts_exactly_the_same(zoo, tmp_path, dims):
    src = write_original(tmp_path / "src", make_model(dims), dims, 2)
    converters.convert(src, tmp_path / "dst", to="hf")
    code, found = compare(zoo, src, tmp_path / "dst", "--set", "max_position_embeddings=64")
    assert (code, found["verdict"]) == (0, "same values, other layout")
    assert found["logits"]["max_difference"] == 0
    assert found["logits"]["same_choice"] == found["logits"]["positions"] == 64


def seeded_prompts(vocabulary):
    dice = random.Random(0)
    return [[dice.randrange(vocabulary) for _ in range(16)] for _ in range(4)]


def test_the_largest_difference_is_the_one_that_transformers_gives(zoo, tmp_path):
    dims = replace(INTERNLM2, dtype="float32")
    model = make_model(dims)
    write_hf(tmp_path / "a", model, dims, names="llama")
    name = "model.layers.1.mlp.down_proj.weight"
    other = {**model, name: model[name][::-1].copy()}
    write_hf(tmp_path / "b", other, dims, names="llama")
    code, found = compare(zoo, tmp_path / "a", tmp_path / "b")
    assert (code, found["verdict"]) == (1, "different")
    with torch.inference_mode():
        ours, theirs = (
            torch.stack(
                [
                    AutoModelForCausalLM.from_pretrained(tmp_path / side, dtype="float32")(
                        torch.tensor([ids])
                    ).logits[0]
                    for ids in seeded_prompts(dims.vocab)
                ]
            )
            for side in "ab"
        )
    gaps = (ours - theirs).abs()
    assert found["logits"]["max_difference"] == pytest.approx(float(gaps.max()), rel=1e-4)
    assert gaps[tuple(found["logits"]["where"])] == pytest.approx(float(gaps.max()), rel=1e-4)
    assert found["logits"]["same_choice"] == int((ours.argmax(-1) == theirs.argmax(-1)).sum())


def test_a_rounded_one_says_by_how_much_it_predicts_otherwise(zoo, tmp_path):
    dims = replace(INTERNLM2, dtype="float32")
    src = write_hf(tmp_path / "src", make_model(dims), dims)
    converters.convert(src, tmp_path / "dst", to="hf", dtype="bfloat16")
    code, out, _ = zoo("compare", src, tmp_path / "dst", "--logits")
    assert code == 1
    assert out.startswith("rounded: ")
    assert "logits: largest difference" in out
    assert "of 64 positions" in out


def test_vocabularies_of_other_sizes_have_no_logits_to_compare(zoo, tmp_path):
    one = write_hf(tmp_path / "a", make_model(INTERNLM2), INTERNLM2)
    dims = replace(INTERNLM2, vocab=INTERNLM2.vocab + 8)
    other = write_hf(tmp_path / "b", make_model(dims), dims)
    code, found = compare(zoo, one, other)
    assert code == 7
    assert str(dims.vocab) in found["error"]["what"]
