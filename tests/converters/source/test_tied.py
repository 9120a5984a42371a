"""Heads that are the embedding: read, kept tied where the format can, written out where it cannot."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import converters
from converters.errors import IntegrityError, UnsupportedError, UsageError
from converters.options import ConversionOptions
from tests.converters.bits import assert_same, to_bits, to_torch
from tests.converters.oracle import (
    BOTH,
    INTERNLM,
    INTERNLM2,
    Variant,
    cells,
    expected,
    make_model,
    read_cells,
    read_hf,
    variant_of,
    write_hf,
    write_original,
    write_tied,
)
from tests.converters.refusal import refused

FAMILY = pytest.mark.parametrize("dims", BOTH, ids=lambda dims: dims.family)
HEADS = {"lm_head.weight", "output.weight"}
TIE = "tie_word_embeddings"


def tied_model(dims):
    """With the head that it counts with in the forward pass."""
    model = make_model(dims)
    return {**model, "lm_head.weight": model["model.embed_tokens.weight"]}


def flag(folder):
    return json.loads((folder / "config.json").read_text())[TIE]


def headless(tensors):
    return {name: tensor for name, tensor in tensors.items() if name not in HEADS}


def other(model):
    head = model["model.embed_tokens.weight"].copy()
    head[-1, -1] ^= 1
    return head


@FAMILY
@pytest.mark.parametrize("to", ["hf", "llama"])
@pytest.mark.parametrize("names", ["hf", "llama"])
def test_a_tied_model_stays_tied_as_save_pretrained_writes_it(tmp_path, dims, names, to):
    model = tied_model(dims)
    src = write_tied(tmp_path / "src", model, dims, names)
    given = {"rope_theta": dims.rope_base, "family": dims.family}
    report = converters.convert(src, tmp_path / "dst", to=to, given=given)
    assert_same(read_hf(tmp_path / "dst"), headless(expected(model, dims, to)))
    assert flag(tmp_path / "dst") is True
    assert not any("head" in note for note in report.notes)
    assert converters.compare(src, tmp_path / "dst").same


def test_what_stock_transformers_saves_of_a_tied_model_has_the_same_tensors(tmp_path):
    from transformers import AutoModelForCausalLM

    src = write_tied(tmp_path / "src", tied_model(INTERNLM2), INTERNLM2)
    converters.convert(src, tmp_path / "dst", to="llama")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "dst", dtype="auto")
    model.save_pretrained(tmp_path / "saved")
    assert_same(read_hf(tmp_path / "saved"), read_hf(tmp_path / "dst"))
    assert flag(tmp_path / "saved") is True
    converters.convert(tmp_path / "saved", tmp_path / "again", to="llama")
    assert_same(read_hf(tmp_path / "again"), read_hf(tmp_path / "dst"))


@FAMILY
def test_the_original_format_gets_a_head_of_its_own_with_a_note(tmp_path, dims):
    model = tied_model(dims)
    src = write_tied(tmp_path / "src", model, dims)
    report = converters.convert(src, tmp_path / "dst", to="original", tp=2)
    wanted = cells(model, dims, 2, how=variant_of(tmp_path / "dst", dims))
    for place, state in read_cells(tmp_path / "dst").items():
        assert_same(state, wanted[place])
    assert any("cannot tie them" in note for note in report.notes)
    given = {TIE: True, "bos_token_id": 1}
    converters.convert(tmp_path / "dst", tmp_path / "back", to="hf", given=given)
    assert_same(read_hf(tmp_path / "back"), read_hf(src))


def test_the_digests_of_a_tied_model_are_those_of_the_same_with_a_head(tmp_path):
    model = tied_model(INTERNLM2)
    src = write_tied(tmp_path / "src", model, INTERNLM2)
    whole = write_hf(tmp_path / "whole", model, INTERNLM2)
    assert converters.fingerprint(src) == converters.fingerprint(whole)
    assert converters.compare(src, whole).verdict == "same values, other layout"
    assert converters.compare(
        src, write_hf(tmp_path / "other", make_model(INTERNLM2), INTERNLM2)
    ).first.tensor == ("head.weight")


@pytest.mark.parametrize("names", ["hf", "llama"])
def test_a_head_that_is_stored_again_is_left_out(tmp_path, names):
    model = tied_model(INTERNLM2)
    src = write_tied(tmp_path / "src", model, INTERNLM2, names, head=model["lm_head.weight"])
    report = converters.convert(src, tmp_path / "dst", to="llama")
    assert_same(read_hf(tmp_path / "dst"), headless(expected(model, INTERNLM2, "llama")))
    assert any("embedding again, was left out" in note for note in report.notes)


def test_one_storage_under_both_names_as_torch_saves_it(tmp_path):
    model = tied_model(INTERNLM2)
    src = write_tied(tmp_path / "src", model, INTERNLM2, "llama")
    tensors = load_file(src / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    (src / "model.safetensors").unlink()
    torch.save(tensors, src / "pytorch_model.bin")
    converters.convert(src, tmp_path / "dst", to="hf", given={"family": "internlm2"})
    assert_same(read_hf(tmp_path / "dst"), headless(expected(model, INTERNLM2, "hf")))


@FAMILY
def test_a_stored_head_that_is_not_the_embedding_is_refused_with_both_names(tmp_path, dims):
    model = make_model(dims)
    src = write_tied(tmp_path / "src", model, dims, "llama", head=other(model))
    message = refused(src, tmp_path / "dst", UsageError, to="llama")
    assert "lm_head.weight is not model.embed_tokens.weight" in message
    assert f"given={{{TIE!r}: False}}" in message
    converters.convert(src, tmp_path / "dst", to="llama", given={TIE: False})
    assert_same(read_hf(tmp_path / "dst"), read_hf(src))
    assert flag(tmp_path / "dst") is False


@pytest.mark.parametrize("reading", [converters.fingerprint, lambda path: converters.compare(path, path)])
def test_so_it_is_by_whatever_reads_it(tmp_path, reading):
    model = make_model(INTERNLM2)
    src = write_tied(tmp_path / "src", model, INTERNLM2, head=other(model))
    with pytest.raises(UsageError, match=r"output\.weight is not model\.tok_embeddings\.weight"):
        reading(src)


def test_a_head_of_another_element_type_is_not_the_embedding(tmp_path):
    model = tied_model(INTERNLM2)
    src = write_tied(tmp_path / "src", model, INTERNLM2)
    tensors = load_file(src / "model.safetensors")
    tensors["output.weight"] = tensors["model.tok_embeddings.weight"].float()
    save_file(tensors, src / "model.safetensors")
    assert "output.weight is not" in refused(src, tmp_path / "dst", UsageError)


@FAMILY
@pytest.mark.parametrize("names", ["hf", "llama"])
@pytest.mark.parametrize("config", [{TIE: False}, {TIE: ...}], ids=["false", "silent"])
def test_a_head_that_is_missing_is_not_tied_silently(tmp_path, dims, names, config):
    src = write_tied(tmp_path / "src", make_model(dims), dims, names, **config)
    head = "lm_head" if names == "llama" or dims is INTERNLM else "output"
    assert f"{head}.weight is missing" in refused(src, tmp_path / "dst", IntegrityError)


def test_what_is_set_unties_and_ties(tmp_path):
    model = tied_model(INTERNLM2)
    src = write_tied(tmp_path / "src", model, INTERNLM2)
    report = converters.convert(src, tmp_path / "untied", to="hf", given={TIE: False})
    assert_same(read_hf(tmp_path / "untied"), expected(model, INTERNLM2, "hf"))
    assert flag(tmp_path / "untied") is False and any(f"{TIE} is false" in note for note in report.notes)
    converters.convert(tmp_path / "untied", tmp_path / "tied", to="hf", given={TIE: True})
    assert_same(read_hf(tmp_path / "tied"), read_hf(src))
    message = refused(
        write_hf(tmp_path / "own", make_model(INTERNLM2), INTERNLM2), tmp_path / "dst", given={TIE: True}
    )
    assert "is not model.tok_embeddings.weight" in message


def test_a_plan_that_would_drop_a_head_of_its_own_is_refused(tmp_path):
    source = converters.open_checkpoint(write_hf(tmp_path / "src", make_model(INTERNLM2), INTERNLM2))
    with pytest.raises(UsageError, match="a head of its own"):
        converters.plan_conversion(source, ConversionOptions(to="llama", given={TIE: True}))


def test_two_equal_tensors_of_an_untied_model_are_noted_and_kept(tmp_path):
    model = tied_model(INTERNLM2)
    src = write_hf(tmp_path / "src", model, INTERNLM2)
    report = converters.convert(src, tmp_path / "dst", to="llama")
    assert_same(read_hf(tmp_path / "dst"), expected(model, INTERNLM2, "llama"))
    assert any("head holds the same as the embedding" in note for note in report.notes)
    plain = write_hf(tmp_path / "plain", make_model(INTERNLM2), INTERNLM2)
    report = converters.convert(plain, tmp_path / "other", to="llama")
    assert not any("embedding" in note for note in report.notes)


def test_norm_head_of_a_tied_head_needs_consent_and_is_written_out(tmp_path):
    src = write_tied(tmp_path / "src", make_model(INTERNLM2), INTERNLM2)
    given = {"norm_head": True}
    refused(src, tmp_path / "dst", UnsupportedError, to="original", given=given)
    converters.convert(src, tmp_path / "dst", to="original", given=given, accept_lossy=True)
    (state,) = read_cells(tmp_path / "dst").values()
    head = to_torch(make_model(INTERNLM2)["model.embed_tokens.weight"], "bfloat16")
    assert np.array_equal(state["output.weight"], to_bits(head))


def test_a_normalised_head_is_never_the_embedding(tmp_path):
    src = write_original(tmp_path / "src", tied_model(INTERNLM2), INTERNLM2, how=Variant(norm_head=True))
    assert "norm_head" in refused(src, tmp_path / "dst", UnsupportedError, given={TIE: True})


def test_a_reward_model_has_nothing_to_tie(tmp_path):
    src = write_tied(
        tmp_path / "src", make_model(INTERNLM2), INTERNLM2, architectures=["InternLM2ForRewardModel"]
    )
    tensors = load_file(src / "model.safetensors")
    tensors["v_head.weight"] = torch.rand(1, INTERNLM2.hidden).bfloat16()
    save_file(tensors, src / "model.safetensors")
    converters.convert(src, tmp_path / "dst", to="llama")
    found = load_file(tmp_path / "dst/model.safetensors")
    assert torch.equal(found["score.weight"], tensors["v_head.weight"]) and len(found) == 30


def test_inspect_counts_a_tied_head_once(tmp_path):
    dims = replace(INTERNLM2, layers=1)
    model = tied_model(dims)
    found = converters.inspect(write_tied(tmp_path / "src", model, dims), deep=True)
    count = sum(array.size for name, array in model.items() if name not in HEADS)
    assert found.known["parameters"].value == count
    assert found.known[TIE].value is True
    assert "head.weight" not in {one.name for one in found.statistics}
