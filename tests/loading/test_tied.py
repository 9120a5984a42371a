"""A model whose head is the embedding holds it once, on one device or several, and computes what stock
transformers does."""

from __future__ import annotations

import pytest
import torch

from internlm_zoo.loading.generate import all_logits
from tests.converters.oracle import INTERNLM2, make_model, write_tied
from tests.loading.demo import home_of, load_model

IDS = [3, 14, 15, 9, 26, 5]


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]], ids=["one", "two"])
def test_its_logits_are_those_of_stock_transformers_and_it_holds_the_embedding_once(tmp_path, devices):
    from transformers import AutoModelForCausalLM

    folder = write_tied(tmp_path / "tied", make_model(INTERNLM2), INTERNLM2, "llama")
    loaded = load_model(folder, settings=home_of(tmp_path), devices=devices, dtype="float32")
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        wanted = theirs(input_ids=torch.tensor([IDS])).logits[0]
    assert torch.equal(all_logits(loaded, IDS), wanted)
    assert loaded.model.lm_head.weight.data_ptr() == loaded.model.model.embed_tokens.weight.data_ptr()
    assert loaded.plan.parameters == sum(p.numel() for p in theirs.parameters())
    assert loaded.plan.placement.nbytes == 4 * loaded.plan.parameters


def test_it_is_read_from_internlm2s_own_names_too(tmp_path):
    model = make_model(INTERNLM2)
    ours, theirs = (
        load_model(
            write_tied(tmp_path / names, model, INTERNLM2, names), settings=home_of(tmp_path), devices=["cpu"]
        )
        for names in ("hf", "llama")
    )
    assert torch.equal(all_logits(ours, IDS), all_logits(theirs, IDS))
