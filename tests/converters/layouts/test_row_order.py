"""The order of a head's rows, which shapes do not show: adapt_hf, its newer name, grouped queries."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import converters
from converters.errors import IntegrityError, UsageError
from tests.converters.bits import assert_same, assert_same_cells
from tests.converters.layouts.converting import assert_converts
from tests.converters.oracle import (
    INTERNLM,
    INTERNLM2,
    Variant,
    cells,
    expected,
    interleaved,
    make_model,
    read_cells,
    read_config,
    read_hf,
    write_hf,
    write_original,
)
from tests.converters.refusal import refused

INTERNLM_OF_8 = replace(INTERNLM, hidden=64)


@pytest.mark.parametrize("names", ["hf", "llama"])
@pytest.mark.parametrize("tp", [1, 4])
def test_adapt_hf_false_pairs_are_laid_out_as_halves(tmp_path, names, tp):
    assert_converts(tmp_path, INTERNLM2, tp, how=Variant(adapt_hf=False), names=names)


def test_the_order_of_rows_is_asked_for_where_the_config_does_not_say_it(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, how=Variant(adapt_hf=None))
    message = refused(src, tmp_path / "dst", UsageError)
    assert "adapt_hf" in message
    assert "`given={'adapt_hf': VALUE}`; likely values: true or false" in message
    assert "qk_interleaved" in message
    converters.convert(src, tmp_path / "dst", to="hf", given={"adapt_hf": True})
    assert_same(read_hf(tmp_path / "dst"), expected(make_model(INTERNLM2), INTERNLM2, "hf"))


NEWER = pytest.mark.parametrize("value", [True, False])


@NEWER
@pytest.mark.parametrize("fused", [True, False])
def test_qk_interleaved_of_newer_internevo_says_the_order_of_rows(tmp_path, value, fused):
    how = Variant(adapt_hf=not value, fused=fused)
    newer = {"adapt_hf": None, "qk_interleaved": value, "model_type": "INTERNLM2"}
    src = write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, 2, how=how, **newer)
    converters.convert(src, tmp_path / "dst", to="hf")
    assert_same(read_hf(tmp_path / "dst"), expected(make_model(INTERNLM2), INTERNLM2, "hf"))


@NEWER
def test_qk_interleaved_is_read_of_internlm_too(tmp_path, value):
    model = make_model(INTERNLM_OF_8)
    rows = dict(model)
    if value:
        for name in [name for name in model if "q_proj" in name or "k_proj" in name]:
            rows[name] = interleaved(model[name], INTERNLM_OF_8.head_dim)
    src = write_original(tmp_path / "src", rows, INTERNLM_OF_8, 2, qk_interleaved=value)
    converters.convert(src, tmp_path / "dst", to="hf")
    assert_same(read_hf(tmp_path / "dst"), model)


def test_both_spellings_of_the_order_must_agree(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, qk_interleaved=True)
    message = refused(src, tmp_path / "dst", IntegrityError)
    assert "adapt_hf and qk_interleaved contradict each other" in message
    assert "given={'adapt_hf': VALUE}" in message
    converters.convert(src, tmp_path / "dst", to="hf", given={"adapt_hf": True})


@pytest.mark.parametrize("value", ["False", 0, None])
def test_an_order_that_is_no_yes_or_no_is_refused(tmp_path, value):
    src = write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, how=Variant(adapt_hf=None))
    torch.save({**read_config(src), "qk_interleaved": value}, src / "model_config.pt")
    assert "qk_interleaved is" in refused(src, tmp_path / "dst", IntegrityError)


def test_both_spellings_of_the_order_are_written(tmp_path):
    src = write_hf(tmp_path / "src", make_model(INTERNLM2), INTERNLM2)
    for value in (True, False):
        dst = tmp_path / str(value)
        converters.convert(src, dst, to="original", given={"qk_interleaved": value})
        assert (read_config(dst)["adapt_hf"], read_config(dst)["qk_interleaved"]) == (not value, value)


def test_adapt_hf_false_is_kept_by_a_new_grid(tmp_path):
    how = Variant(adapt_hf=False)
    model = make_model(INTERNLM2)
    src = write_original(tmp_path / "src", model, INTERNLM2, 2, how=how)
    converters.convert(src, tmp_path / "dst", to="original", tp=8)
    assert read_config(tmp_path / "dst")["adapt_hf"] is False
    assert_same_cells(read_cells(tmp_path / "dst"), cells(model, INTERNLM2, 8, how=how))


@pytest.mark.parametrize("adapt_hf", [True, False])
def test_wq_wk_wv_of_later_internevo(tmp_path, adapt_hf):
    assert_converts(tmp_path, INTERNLM2, 4, (2, 1), Variant(fused=False, adapt_hf=adapt_hf))


@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 8), (16, 2), (8, 1), (16, 4)])
@pytest.mark.parametrize("adapt_hf", [True, False])
def test_queries_are_grouped_by_kv_head(tmp_path, heads, kv_heads, adapt_hf):
    dims = replace(INTERNLM2, heads=heads, kv_heads=kv_heads)
    assert_converts(tmp_path, dims, min(2, kv_heads), how=Variant(adapt_hf=adapt_hf), names="llama")


@pytest.mark.parametrize("value", [True, False])
def test_the_order_of_rows_of_what_was_converted_is_known_from_its_record(tmp_path, value):
    src = write_hf(tmp_path / "src", make_model(INTERNLM2), INTERNLM2)
    converters.convert(src, tmp_path / "original", to="original", given={"adapt_hf": value})
    config = read_config(tmp_path / "original")
    silent = {key: said for key, said in config.items() if key not in ("adapt_hf", "qk_interleaved")}
    torch.save(silent, tmp_path / "original/model_config.pt")
    converters.convert(tmp_path / "original", tmp_path / "dst", to="hf")
    assert_same(read_hf(tmp_path / "dst"), expected(make_model(INTERNLM2), INTERNLM2, "hf"))
    record = json.loads((tmp_path / "dst/conversion.json").read_text())
    assert record["source"]["choices"]["adapt_hf"] is value
