"""Vocabularies that no number of ranks can share: padded by rows of zeros, which the way back drops."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import converters
from converters.errors import IntegrityError, UnsupportedError, UsageError
from tests.converters.bits import assert_same, assert_same_cells
from tests.converters.oracle import (
    BOTH,
    INTERNLM2,
    Variant,
    cells,
    expected,
    make_model,
    read_cells,
    read_config,
    read_hf,
    variant_of,
    write_hf,
    write_original,
    write_tied,
)
from tests.converters.refusal import refused

ROWS = 65
FAMILY = pytest.mark.parametrize("dims", [replace(dims, vocab=ROWS) for dims in BOTH], ids=lambda d: d.family)
DIMS = replace(INTERNLM2, vocab=ROWS)


def longer(model, rows):
    """The model with rows of zeros."""
    ends = {name: model[name] for name in ("model.embed_tokens.weight", "lm_head.weight")}
    zeros = {
        name: np.concatenate([array, np.zeros((rows - len(array), array.shape[1]), array.dtype)])
        for name, array in ends.items()
    }
    return model | zeros


@FAMILY
@pytest.mark.parametrize(
    ("multiple", "tp", "rows"), [(2, 2, 66), (4, 4, 68), (64, 8, 128), (1, 1, 65), (5, 1, 65)]
)
def test_rows_of_zeros_make_it_divisible_and_the_way_back_drops_them(tmp_path, dims, multiple, tp, rows):
    model = make_model(dims)
    src = write_hf(tmp_path / "src", model, dims)
    how = {"to": "original", "tp": tp, "pad_vocab_to_multiple": multiple}
    converters.convert(src, tmp_path / "grid", **how)
    wide = replace(dims, vocab=rows)
    wanted = cells(longer(model, rows), wide, tp, how=variant_of(tmp_path / "grid", wide))
    assert_same_cells(read_cells(tmp_path / "grid"), wanted)
    config = read_config(tmp_path / "grid")
    assert config["vocab_size"] == rows and config.get("unpadded_vocab_size") == (
        ROWS if rows > ROWS else None
    )
    report = converters.convert(tmp_path / "grid", tmp_path / "back", to="hf")
    assert_same(read_hf(tmp_path / "back"), read_hf(src))
    config = json.loads((tmp_path / "back/config.json").read_text())
    assert config["vocab_size"] == ROWS and "unpadded_vocab_size" not in config
    assert any("padding" in note for note in report.notes) is (rows > ROWS)


@FAMILY
def test_an_embedding_that_is_cut_along_the_vocabulary_too(tmp_path, dims):
    model = make_model(dims)
    src = write_hf(tmp_path / "src", model, dims)
    given = {"embed_split_hidden": False}
    converters.convert(src, tmp_path / "grid", to="original", tp=4, given=given, pad_vocab_to_multiple=4)
    wide = replace(dims, vocab=68)
    how = variant_of(tmp_path / "grid", wide)
    assert not how.embed_split_hidden
    assert_same_cells(read_cells(tmp_path / "grid"), cells(longer(model, 68), wide, 4, how=how))
    converters.convert(tmp_path / "grid", tmp_path / "other", to="original", tp=2, pad_vocab_to_multiple=64)
    converters.convert(tmp_path / "other", tmp_path / "back", to="hf")
    assert_same(read_hf(tmp_path / "back"), read_hf(src))


def test_the_refusal_names_the_option_with_a_number_that_works(tmp_path, zoo):
    src = write_hf(tmp_path / "src", make_model(DIMS), DIMS)
    message = refused(src, tmp_path / "dst", UnsupportedError, to="original", tp=2)
    assert "65 vocabulary entries" in message and "pad_vocab_to_multiple=2" in message
    command = (
        "convert",
        src,
        tmp_path / "dst",
        "--to",
        "original",
        "--tp",
        "2",
        "--pad-vocab-to-multiple",
        "2",
    )
    code, _, err = zoo(*command)
    assert code == 0 and "padded from 65 to 66 rows" in err
    assert zoo("verify", tmp_path / "dst")[0] == 0
    assert zoo("compare", src, tmp_path / "dst")[0] == 0
    assert "last row of the vocabulary is padding" in zoo("inspect", tmp_path / "dst")[2]


def test_what_else_cannot_be_shared_is_not_said_to_be_padded(tmp_path):
    src = write_hf(tmp_path / "src", make_model(DIMS), DIMS)
    message = refused(src, tmp_path / "dst", UnsupportedError, to="original", tp=3, pad_vocab_to_multiple=3)
    assert "128 hidden dimensions" in message and "pad" not in message
    refused(src, tmp_path / "dst", UsageError, to="original", pad_vocab_to_multiple=0)


def test_the_record_says_both_numbers(tmp_path):
    src = write_hf(tmp_path / "src", make_model(DIMS), DIMS)
    converters.convert(src, tmp_path / "dst", to="original", tp=2, pad_vocab_to_multiple=2)
    record = json.loads((tmp_path / "dst/conversion.json").read_text())
    assert record["options"]["pad_vocab_to_multiple"] == 2
    assert record["facts"]["vocab_size"]["value"] == 66
    assert record["facts"]["unpadded_vocab_size"]["value"] == ROWS


def test_digests_and_comparison_see_the_same_weights(tmp_path):
    src = write_hf(tmp_path / "src", make_model(DIMS), DIMS)
    for to, options in (("original", {"tp": 2}), ("llama", {}), ("hf", {})):
        report = converters.convert(src, tmp_path / to, to=to, pad_vocab_to_multiple=8, **options)
        assert converters.fingerprint(tmp_path / to) == converters.fingerprint(src) == report.fingerprints
        assert converters.compare(src, tmp_path / to).same


@pytest.mark.parametrize("options", [{"dtype": "float16"}, {"given": {"norm_head": False}}])
def test_padding_goes_with_rounding_and_normalised_heads(tmp_path, options):
    how = Variant(norm_head="given" in options)
    src = write_original(tmp_path / "src", make_model(DIMS), DIMS, how=how)
    converters.convert(src, tmp_path / "plain", to="hf", dtype=options.get("dtype", "keep"))
    converters.convert(
        src, tmp_path / "padded", to="hf", pad_vocab_to_multiple=8, dtype=options.get("dtype", "keep")
    )
    plain, padded = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "padded"))
    for name, tensor in plain.items():
        assert torch.equal(padded[name][: len(tensor)], tensor), name
        assert not padded[name][len(tensor) :].any(), name


def test_stock_transformers_gives_the_same_logits_for_the_true_vocabulary(tmp_path):
    from transformers import AutoModelForCausalLM

    src = write_hf(tmp_path / "src", make_model(DIMS), DIMS)
    ids = torch.tensor([[3, 14, 15, 9, 64]])
    logits = []
    for name, multiple in (("plain", 1), ("padded", 64)):
        converters.convert(src, tmp_path / name, to="llama", pad_vocab_to_multiple=multiple)
        model = AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.float32).eval()
        with torch.inference_mode():
            logits.append(model(input_ids=ids).logits[0])
    assert logits[1].shape[1] == 128
    assert torch.allclose(logits[1][:, :ROWS], logits[0], rtol=0, atol=1e-5)
    assert not logits[1][:, ROWS:].any()


def test_a_tied_head_is_padded_with_its_embedding(tmp_path):
    src = write_tied(tmp_path / "src", make_model(DIMS), DIMS)
    converters.convert(src, tmp_path / "grid", to="original", tp=2, pad_vocab_to_multiple=2)
    converters.convert(src, tmp_path / "padded", to="llama", pad_vocab_to_multiple=2)
    assert len(read_hf(tmp_path / "padded")["model.embed_tokens.weight"]) == 66
    for name in ("grid", "padded"):
        given = {"tie_word_embeddings": True}
        converters.convert(tmp_path / name, tmp_path / f"{name}-back", to="hf", given=given)
        assert_same(read_hf(tmp_path / f"{name}-back"), read_hf(src))


@pytest.mark.parametrize("key", ["output.weight", "model.tok_embeddings.weight"])
def test_rows_that_training_has_changed_are_kept_and_noted(tmp_path, key):
    src = write_hf(tmp_path / "src", make_model(DIMS), DIMS)
    converters.convert(src, tmp_path / "padded", to="hf", pad_vocab_to_multiple=2)
    tensors = load_file(tmp_path / "padded/model.safetensors")
    tensors[key][-1, -1] = 0.5
    save_file(tensors, tmp_path / "padded/model.safetensors", {"format": "pt"})
    report = converters.convert(tmp_path / "padded", tmp_path / "dst", to="hf")
    assert_same(read_hf(tmp_path / "dst"), read_hf(tmp_path / "padded"))
    config = json.loads((tmp_path / "dst/config.json").read_text())
    assert config["vocab_size"] == 66 and "unpadded_vocab_size" not in config
    assert any(
        "rows 65 to 65 of the vocabulary were padding, and are no zeros" in note for note in report.notes
    )


def test_rows_of_zeros_that_nobody_called_padding_are_kept(tmp_path):
    wide = replace(DIMS, vocab=66)
    src = write_original(tmp_path / "src", longer(make_model(DIMS), 66), wide, 2)
    converters.convert(src, tmp_path / "dst", to="hf")
    assert_same(read_hf(tmp_path / "dst"), expected(longer(make_model(DIMS), 66), wide, "hf"))


@pytest.mark.parametrize("number", [66, 0, -1, "65", 65.0])
def test_a_number_of_rows_that_there_are_not_is_refused(tmp_path, number):
    src = write_hf(tmp_path / "src", make_model(DIMS), DIMS, unpadded_vocab_size=number)
    assert "unpadded_vocab_size" in refused(src, tmp_path / "dst", IntegrityError)
