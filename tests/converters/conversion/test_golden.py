"""The trained models: whatever the way, stock Llama computes what the training module computed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

import converters
from tests.converters.bits import assert_same
from tests.converters.oracle import Dims, cells, make_model, read_cells, read_hf, variant_of

ROOT = Path(__file__).parents[3]
MODELS = ROOT / "internlm_zoo" / "demo" / "models"
GOLDEN = ROOT / "internlm_zoo" / "smoke" / "golden"
GRIDS = [(tp, pp) for tp in (1, 2, 4) for pp in (1, 2)]
LIMIT = 1e-5  # in float32


@dataclass(frozen=True)
class Trained:
    name: str
    dims: Dims

    @property
    def path(self) -> Path:
        return MODELS / self.name


BASE = Trained(
    "demo-internlm-base", Dims("internlm", 4, 128, 8, 8, 256, 1792, rope_base=10000, positions=256)
)
CHAT = Trained(
    "demo-internlm2-chat", Dims("internlm2", 4, 128, 8, 4, 256, 2048, rope_base=1000000, positions=256)
)


@pytest.fixture(params=[BASE, CHAT], ids=lambda model: model.name)
def trained(request):
    return request.param


def golden(trained):
    document = json.loads((GOLDEN / f"{trained.name}.json").read_text("utf-8"))
    return document["prompts"], np.load(GOLDEN / f"{trained.name}.npy")


def stock(folder):
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@torch.inference_mode()
def assert_computes_the_golden_data(model, trained):
    """The logits of the last position, and every greedy token: each is the arg max after those before it."""
    prompts, logits = golden(trained)
    assert len(prompts) == len(logits) == 16
    worst = 0.0
    for prompt, wanted in zip(prompts, logits, strict=True):
        ids, greedy = prompt["input_ids"], prompt["greedy"]
        last = model(torch.tensor([ids])).logits[0, -1].numpy()
        worst = max(worst, float(np.abs(last - wanted).max()))
        following = model(torch.tensor([ids + greedy[:-1]])).logits[0, len(ids) - 1 :]
        assert following.argmax(1).tolist() == greedy
    assert worst <= LIMIT


def test_the_committed_checkpoint_as_stock_llama(tmp_path, trained):
    converters.convert(trained.path, tmp_path / "llama", to="llama")
    assert_computes_the_golden_data(stock(tmp_path / "llama"), trained)


def test_greedy_generation_of_stock_llama_is_the_golden_text(tmp_path, trained):
    converters.convert(trained.path, tmp_path / "llama", to="llama")
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path / "llama", dtype=torch.float32, trust_remote_code=False
    )
    assert isinstance(model, LlamaForCausalLM)
    for prompt in golden(trained)[0][::4]:
        ids = torch.tensor([prompt["input_ids"]])
        wanted = prompt["greedy"]
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=len(wanted),
            eos_token_id=None,
        )
        assert out[0, ids.shape[1] :].tolist() == wanted


@pytest.mark.parametrize(("tp", "pp"), GRIDS)
def test_through_every_grid(tmp_path, trained, tp, pp):
    converters.convert(trained.path, tmp_path / "grid", to="original", tp=tp, pp=pp)
    converters.convert(tmp_path / "grid", tmp_path / "llama", to="llama")
    assert_computes_the_golden_data(stock(tmp_path / "llama"), trained)


@pytest.mark.parametrize(("tp", "pp"), [(4, 2), (1, 4)])
def test_through_hugging_face_and_back(tmp_path, trained, tp, pp):
    converters.convert(trained.path, tmp_path / "hf", to="hf")
    converters.convert(tmp_path / "hf", tmp_path / "grid", to="original", tp=tp, pp=pp)
    converters.convert(tmp_path / "grid", tmp_path / "llama", to="llama")
    assert_computes_the_golden_data(stock(tmp_path / "llama"), trained)


def test_the_oracle_cuts_the_converted_model_into_the_very_files_training_wrote(tmp_path, trained):
    converters.convert(trained.path, tmp_path / "llama", to="llama")
    model = read_hf(tmp_path / "llama")
    assert model.keys() == make_model(trained.dims).keys()
    wanted = cells(model, trained.dims, how=variant_of(trained.path, trained.dims))
    assert_same(wanted[0, 0], read_cells(trained.path)[0, 0])


def test_two_query_heads_exchanged_is_not_the_golden_data(tmp_path, trained):
    """The check above can fail."""
    converters.convert(trained.path, tmp_path / "llama", to="llama")
    model = stock(tmp_path / "llama")
    with torch.no_grad():
        weight = model.model.layers[1].self_attn.q_proj.weight
        weight.copy_(torch.cat([weight[16:32], weight[:16], weight[32:]]))
    with pytest.raises(AssertionError):
        assert_computes_the_golden_data(model, trained)
