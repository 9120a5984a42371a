"""Heads of norm_head, whose rows count with length one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import converters
from converters.errors import UnsupportedError
from tests.converters.bits import assert_same, assert_same_cells, to_bits, to_torch
from tests.converters.oracle import (
    INTERNLM2,
    Variant,
    cells,
    expected,
    make_model,
    read_cells,
    read_config,
    read_hf,
    write_original,
)


def test_norm_head_gives_the_normalised_head(tmp_path):
    model = make_model(INTERNLM2)
    src = write_original(tmp_path / "src", model, INTERNLM2, 2, how=Variant(norm_head=True))
    converters.convert(src, tmp_path / "dst", to="hf")
    found = read_hf(tmp_path / "dst")
    head = to_torch(model["lm_head.weight"], "bfloat16")
    upstreams = torch.nn.functional.normalize(head, dim=-1)
    written = to_torch(found["output.weight"], "bfloat16")
    assert torch.allclose(written.double(), upstreams.double(), rtol=2**-8, atol=1e-37)
    assert (written == upstreams).double().mean() > 0.99
    exact = head.double() / head.double().norm(dim=1, keepdim=True)
    assert torch.allclose(written.double(), exact, rtol=2**-7, atol=1e-37)
    wanted = expected(model, INTERNLM2, "hf")
    assert_same(
        {k: v for k, v in found.items() if k != "output.weight"},
        {k: v for k, v in wanted.items() if k != "output.weight"},
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_norm_head_of_rows_with_hardly_any_length_is_torchs(tmp_path, dtype):
    dims = replace(INTERNLM2, dtype=dtype)
    model = make_model(dims)
    model["lm_head.weight"][3:6] = 0
    head = to_torch(model["lm_head.weight"], dtype)
    head[4] = torch.linspace(-1e-14, 1e-14, dims.hidden)  # below torch's epsilon
    head[5] = torch.linspace(-1e-9, 1e-9, dims.hidden)  # above it
    model["lm_head.weight"] = to_bits(head)
    src = write_original(tmp_path / "src", model, dims, how=Variant(norm_head=True))
    converters.convert(src, tmp_path / "dst", to="hf")
    written = to_torch(read_hf(tmp_path / "dst")["output.weight"], dtype)[3:6]
    assert not written[0].any()
    assert torch.allclose(written, torch.nn.functional.normalize(head[3:6], dim=-1), rtol=2**-7, atol=0)


def test_norm_head_counts_in_fingerprints_and_comparisons_as_in_the_forward_pass(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, 2, how=Variant(norm_head=True))
    converters.convert(src, tmp_path / "dst", to="hf")
    assert converters.fingerprint(src) == converters.fingerprint(tmp_path / "dst")
    assert converters.compare(src, tmp_path / "dst").verdict == "same values, other layout"


def test_norm_head_cannot_be_brought_back_unless_the_loss_is_accepted(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, 2, how=Variant(norm_head=True))
    converters.convert(src, tmp_path / "hf", to="hf")
    how = {"to": "original", "tp": 4, "given": {"norm_head": True}}
    with pytest.raises(UnsupportedError, match="cannot be brought back") as refused:
        converters.convert(tmp_path / "hf", tmp_path / "back", **how)
    assert "`accept_lossy=True`" in refused.value.fix
    assert not (tmp_path / "back").exists()
    report = converters.convert(tmp_path / "hf", tmp_path / "back", accept_lossy=True, **how)
    assert any(note.startswith("lossy: the head") for note in report.notes)
    assert read_config(tmp_path / "back")["norm_head"] is True
    states = [state for _, state in sorted(read_cells(tmp_path / "back").items())]
    head = np.concatenate([state["output.weight"] for state in states])
    assert (head == read_hf(tmp_path / "hf")["output.weight"]).all()
    assert report.fingerprints == converters.fingerprint(tmp_path / "back")
    differing = {
        name
        for name, digest in converters.fingerprint(tmp_path / "hf").items()
        if digest != report.fingerprints[name]
    }
    assert differing <= {"head.weight"}
    record = json.loads((tmp_path / "back/conversion.json").read_text())
    assert record["lossy"] == ["head.weight"]


def test_norm_head_stays_as_it_is_in_a_new_grid(tmp_path):
    how = Variant(norm_head=True)
    model = make_model(INTERNLM2)
    src = write_original(tmp_path / "src", model, INTERNLM2, 2, how=how)
    converters.convert(src, tmp_path / "dst", to="original", tp=4)
    assert read_config(tmp_path / "dst")["norm_head"] is True
    assert_same_cells(read_cells(tmp_path / "dst"), cells(model, INTERNLM2, 4, how=how))
