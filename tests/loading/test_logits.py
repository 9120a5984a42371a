"""`compare --logits`: both sides are run, and what they predict is held against each other."""

from __future__ import annotations

import json
import random
import shutil
import sys
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import converters
from internlm_zoo.loading.logits import TEXTS
from tests.converters.oracle import BOTH, INTERNLM2, make_model, write_hf, write_original
from tests.loading.demo import MODELS, rewritten

CHAT = MODELS[1]


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


def logits_of(folder, prompts):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    with torch.inference_mode():
        return [model(torch.tensor([ids])).logits[0] for ids in prompts]


def test_the_largest_difference_is_the_one_that_transformers_gives(zoo, tmp_path):
    dims = replace(INTERNLM2, dtype="float32")
    model = make_model(dims)
    write_hf(tmp_path / "a", model, dims, names="llama")
    name = "model.layers.1.mlp.down_proj.weight"
    other = {**model, name: model[name][::-1].copy()}
    write_hf(tmp_path / "b", other, dims, names="llama")
    code, found = compare(zoo, tmp_path / "a", tmp_path / "b")
    assert (code, found["verdict"]) == (1, "different")
    ours, theirs = (torch.stack(logits_of(tmp_path / side, seeded_prompts(dims.vocab))) for side in "ab")
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
    assert "the likeliest token is the same at" in out


def test_of_vocabularies_of_other_sizes_the_tokens_both_have_are_compared(zoo, tmp_path):
    dims = replace(INTERNLM2, dtype="float32")
    wider = replace(dims, vocab=dims.vocab + 8)
    write_hf(tmp_path / "a", make_model(dims), dims, names="llama")
    write_hf(tmp_path / "b", make_model(wider), wider, names="llama")
    code, found = compare(zoo, tmp_path / "b", tmp_path / "a")
    assert (code, found["verdict"], found["max_error"]) == (1, "different", None)
    theirs, ours = (torch.stack(logits_of(tmp_path / side, seeded_prompts(dims.vocab))) for side in "ab")
    gaps = (ours[..., : dims.vocab] - theirs).abs()
    assert found["logits"]["vocabulary"] == dims.vocab
    assert found["logits"]["max_difference"] == pytest.approx(float(gaps.max()), rel=1e-4)


def test_texts_are_run_too_where_both_have_the_same_tokenizer(zoo, directories, tmp_path):
    """The largest difference is made to be in a text: in the row of a token that only texts have."""
    source = directories[CHAT, "llama"]
    tokenizer = AutoTokenizer.from_pretrained(source)
    texts = [tokenizer(text).input_ids for text in TEXTS]
    token = texts[1][3]
    assert all(token not in prompt for prompt in seeded_prompts(len(tokenizer)))

    def change(tensors):
        tensors["model.embed_tokens.weight"][token] ^= 0x8000  # the sign of a bfloat16

    other = rewritten(source, tmp_path / "other", change)
    code, found = compare(zoo, source, other)
    assert (code, found["verdict"]) == (1, "different")
    prompts = [*seeded_prompts(len(tokenizer)), *texts]
    pairs = zip(logits_of(source, prompts), logits_of(other, prompts), strict=True)
    gaps = [(ours - theirs).abs().max() for ours, theirs in pairs]
    logits = found["logits"]
    assert (logits["prompts"], logits["texts"], logits["other_tokens"]) == (7, 3, [])
    assert logits["positions"] == sum(map(len, prompts))
    assert logits["max_difference"] == pytest.approx(float(max(gaps)), rel=1e-4)
    assert logits["where"][0] == int(torch.stack(gaps).argmax()) >= 4
    assert not logits["choices_agree"]


def test_texts_that_two_tokenizers_cut_differently_are_named_and_not_run(zoo, directories, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(directories[CHAT, "hf"], other)
    rules = json.loads((other / "tokenizer.json").read_text())
    rules["normalizer"] = {"type": "Lowercase"}
    (other / "tokenizer.json").write_text(json.dumps(rules))
    code, found = compare(zoo, directories[CHAT, "hf"], other)
    assert code == 0
    logits = found["logits"]
    assert TEXTS[0] in logits["other_tokens"]
    assert logits["texts"] == len(TEXTS) - len(logits["other_tokens"])
    assert logits["max_difference"] == 0


def test_a_weight_that_is_no_number_is_an_infinite_difference(zoo, tmp_path):
    dims = replace(INTERNLM2, dtype="float32")
    model = make_model(dims)
    name = "model.layers.0.mlp.down_proj.weight"
    broken = {**model, name: model[name].copy()}
    broken[name][0, 0] = 0x7FC00000
    write_hf(tmp_path / "a", model, dims, names="llama")
    write_hf(tmp_path / "b", broken, dims, names="llama")
    code, found = compare(zoo, tmp_path / "a", tmp_path / "b")
    assert (code, found["logits"]["max_difference"]) == (1, None)
    code, out, _ = zoo("compare", tmp_path / "a", tmp_path / "b", "--logits")
    assert (code, "largest difference inf" in out) == (1, True)


def test_without_torch_it_is_refused_with_the_way_out(zoo, tmp_path, monkeypatch):
    src = write_hf(tmp_path / "src", make_model(INTERNLM2), INTERNLM2)
    monkeypatch.setitem(sys.modules, "torch", None)
    code, found = compare(zoo, src, src)
    assert code == 7
    assert "torch" in found["error"]["what"]
    assert "internlm-zoo[torch]" in found["error"]["fix"]
