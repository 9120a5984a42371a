"""Rows that pad a vocabulary are no tokens: a model is loaded without them, and none is ever written."""

from __future__ import annotations

from dataclasses import replace

import torch

import converters
from internlm_zoo.loading.generate import all_logits
from tests.converters.oracle import INTERNLM2, make_model, write_hf
from tests.loading.demo import home_of, load_model


def test_a_padded_checkpoint_is_loaded_with_its_own_vocabulary(tmp_path):
    dims = replace(INTERNLM2, vocab=65)
    src = write_hf(tmp_path / "src", make_model(dims), dims)
    converters.convert(src, tmp_path / "padded", to="original", tp=2, pad_vocab_to_multiple=2)
    ours, theirs = (
        load_model(folder, settings=home_of(tmp_path), devices=["cpu"])
        for folder in (tmp_path / "padded", src)
    )
    ids = [3, 14, 15, 9]
    assert ours.model.config.vocab_size == 65
    assert torch.equal(all_logits(ours, ids), all_logits(theirs, ids))
