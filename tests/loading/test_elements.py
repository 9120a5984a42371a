"""A model whose tensors have several element types is computed in that of most of its bytes, as stock
transformers does it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from internlm_zoo.loading.generate import all_logits
from internlm_zoo.progress import Progress
from tests.converters.oracle import INTERNLM2, make_model, write_hf
from tests.loading.demo import home_of, load_model

IDS = [3, 14, 15, 9, 26, 5]


class Notes(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.mark.parametrize(("most", "few"), [("bfloat16", "float32"), ("float64", "float32")])
def test_it_has_the_logits_that_stock_transformers_gives_it(tmp_path, most, few):
    from transformers import AutoModelForCausalLM

    folder = write_hf(tmp_path / "mixed", make_model(INTERNLM2), INTERNLM2, "llama", torch_dtype=most)
    stored = load_file(folder / "model.safetensors")
    types = {True: getattr(torch, few), False: getattr(torch, most)}
    mixed = {name: tensor.to(types["norm" in name]) for name, tensor in stored.items()}
    save_file(mixed, folder / "model.safetensors", {"format": "pt"})
    told = Notes()
    loaded = load_model(folder, settings=home_of(tmp_path), devices=["cpu"], progress=told)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    assert (
        {p.dtype for p in loaded.model.parameters()}
        == {p.dtype for p in theirs.parameters()}
        == {types[False]}
    )
    with torch.inference_mode():
        wanted = theirs(input_ids=torch.tensor([IDS])).logits[0].float()
    assert torch.equal(all_logits(loaded, IDS), wanted)
    assert f"all of it is held and computed in {most}" in told.notes
