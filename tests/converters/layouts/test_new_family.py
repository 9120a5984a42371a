"""A family that exists only as a table: the whole grid of conversions follows from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import converters
from converters import layouts
from converters.containers.torch_grid import TORCH_GRID
from converters.layouts.table import Layout, row
from tests.converters.bits import assert_same
from tests.converters.oracle import INTERNLM2, expected, make_model, read_cells, read_hf, write_hf

A, L = "layers.N.attention.", "layers.N."
MADE_UP = Layout(
    family="internlm2",
    format="made-up",
    container=TORCH_GRID,
    choices={"heads_last": (True,)},
    rows=(
        row("wte", "embed.weight", "vocab | hidden", "vocab"),
        row("h.N.n1", f"{L}attention_norm.weight", "hidden"),
        # keys and values of a head side by side; queries by themselves, interleaved
        row(
            "h.N.kv", f"{A}k.weight {A}v.weight", "kv_heads parts halves pairs head_dim | hidden", "kv_heads"
        ),
        row("h.N.q", f"{A}q.weight", "kv_heads q_per_kv pairs halves | hidden", "kv_heads"),
        row("h.N.o", f"{A}o.weight", "hidden | kv_heads q_per_kv head_dim", "kv_heads"),
        row("h.N.n2", f"{L}mlp_norm.weight", "hidden"),
        # gate and up as one
        row("h.N.gu", f"{L}mlp.gate.weight {L}mlp.up.weight", "parts inter | hidden", "inter"),
        row("h.N.d", f"{L}mlp.down.weight", "hidden | inter", "inter"),
        row("nf", "norm.weight", "hidden"),
        row("out", "head.weight", "vocab | hidden", "vocab"),
    ),
    template={
        "made_up": True,
        "heads": "$num_attention_heads",
        "kv": "$num_kv_heads",
        "hidden": "$hidden_size",
        "inter": "$intermediate_size",
        "vocab": "$vocab_size",
        "layers": "$num_layers",
        "eps": "$rms_norm_eps",
        "rope": "$rope_theta",
        "positions": "$max_position_embeddings",
    },
)


@pytest.fixture
def made_up(monkeypatch):
    """The table stands where the family's original format stood."""
    table = Layout(**{**vars(MADE_UP), "format": "original"})
    kept = tuple(x for x in layouts.LAYOUTS if (x.family, x.format) != ("internlm2", "original"))
    monkeypatch.setattr(layouts, "LAYOUTS", (table, *kept))


@pytest.mark.parametrize(("tp", "pp"), [(tp, pp) for tp in (1, 2, 4, 8) for pp in (1, 2, 3)])
def test_there_and_back_over_every_grid(made_up, tmp_path, tp, pp):
    model = make_model(INTERNLM2)
    src = write_hf(tmp_path / "src", model, INTERNLM2)
    converters.convert(src, tmp_path / "grid", to="original", tp=tp, pp=pp)
    assert len(read_cells(tmp_path / "grid")) == tp * pp
    converters.convert(tmp_path / "grid", tmp_path / "other", to="original", tp=8 // tp, pp=1)
    given = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "rope_scaling": None}
    converters.convert(tmp_path / "other", tmp_path / "dst", to="hf", given=given)
    assert_same(read_hf(tmp_path / "dst"), expected(model, INTERNLM2, "hf"))


def test_the_table_is_followed_to_the_row(made_up, tmp_path):
    model = make_model(INTERNLM2)
    src = write_hf(tmp_path / "src", model, INTERNLM2)
    converters.convert(src, tmp_path / "grid", to="original", tp=2)
    ranks = [torch.load(tmp_path / "grid" / f"model_tp{t}_pp0.pt", weights_only=True) for t in (0, 1)]
    wanted = expected(model, INTERNLM2, "llama")
    layer = "model.layers.0."
    gates = [np.asarray(wanted[f"{layer}mlp.{part}_proj.weight"]) for part in ("gate", "up")]
    halves = [np.split(gate, 2) for gate in gates]
    for t, rank in enumerate(ranks):
        found = rank["h.0.gu"].view(torch.uint16).numpy()
        assert np.array_equal(found, np.concatenate([half[t] for half in halves]))
