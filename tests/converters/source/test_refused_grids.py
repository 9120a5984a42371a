"""Grids that stop a conversion before a byte is written: incomplete, of another kind, not to be cut so."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from converters.errors import NotFoundError, UnsupportedError, UsageError, ZooError
from tests.converters.oracle import (
    INTERNLM2,
    make_model,
    write_hf,
    write_original,
)
from tests.converters.refusal import refused


@pytest.mark.parametrize("missing", ["model_tp2_pp0.pt", "model_tp0_pp1.pt", "model_tp0_pp0.pt"])
def test_a_missing_cell_is_named(src, dst, missing):
    (src / missing).unlink()
    assert missing in refused(src, dst)


def test_a_missing_rank_of_every_stage_is_a_hole_not_a_smaller_grid(src, dst):
    for path in src.glob("model_tp1_*"):
        path.unlink()
    message = refused(src, dst)
    assert "model_tp1_pp0.pt" in message
    assert "grid of 4 tensor-parallel ranks and 2 pipeline stages" in message


def test_a_stage_cut_off_the_end_is_noticed_by_its_layers(src, dst):
    for path in src.glob("model_tp*_pp1.pt"):
        path.unlink()
    refused(src, dst)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("model_tp0_wp0_pp0.pt", "weight parallel"),
        ("model_wp0_pp0.pt", "weight parallel"),
        ("model_tp0_pp0_dp0.pt", "FSDP"),
        ("model_moe_layer0_expert0_tp0.pt", "mixture of experts"),
    ],
)
def test_grids_of_other_kinds_are_refused_by_name(src, dst, name, word):
    (src / "model_tp0_pp0.pt").rename(src / name)
    message = refused(src, dst, UnsupportedError)
    assert name in message
    assert word in message


@pytest.mark.parametrize("name", ["model_tp0_pp0_dp1.pt", "model_moe_layer0_expert0_tp0.pt", "model_tp0.pt"])
def test_files_of_other_kinds_beside_a_whole_grid_are_refused_too(src, dst, name):
    torch.save({"x": torch.ones(1)}, src / name)
    assert name in refused(src, dst)


def test_interleaved_pipeline_chunks_are_refused(tmp_path, dst, dims):
    src = write_original(tmp_path / "chunked", make_model(dims), dims, num_chunks=2)
    assert "num_chunks" in refused(src, dst, UnsupportedError)


def test_an_empty_directory_is_no_checkpoint(tmp_path, dst):
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refused(tmp_path / "empty", dst)


def test_a_path_that_is_not_there(tmp_path, dst):
    assert "nowhere" in refused(tmp_path / "nowhere", dst, NotFoundError)


def test_model_config_missing_is_named(src, dst):
    (src / "model_config.pt").unlink()
    assert "model_config.pt" in refused(src, dst)


@pytest.mark.parametrize("tp", [16, 3])
def test_tp_that_does_not_divide_the_heads_is_refused_with_both_numbers(src, dst, dims, tp):
    message = refused(src, dst, UnsupportedError, to="original", tp=tp)
    assert str(tp) in message
    assert {"8", str(dims.hidden)} & set(re.findall(r"\d+", message))  # heads, or the hidden size


def test_tp_beyond_the_kv_heads_is_refused_with_both_numbers(tmp_path, dst):
    dims = replace(INTERNLM2, kv_heads=2)
    src = write_hf(tmp_path / "hf", make_model(dims), dims)
    message = refused(src, dst, UnsupportedError, to="original", tp=4)
    assert "4" in message
    assert "2" in message
    assert "kv" in message.lower()


def test_a_source_cut_through_its_kv_heads_is_refused(tmp_path, dst):
    """Four ranks over two KV heads, as upstream's script writes without a word."""
    dims = replace(INTERNLM2, kv_heads=2)
    model = make_model(dims)
    whole = write_original(tmp_path / "whole", model, dims)
    state = torch.load(whole / "model_tp0_pp0.pt", weights_only=True)
    for rank in range(4):
        part = {}
        for key, tensor in state.items():
            replicated = tensor.dim() == 1
            columns = key.endswith(("wo.weight", "w2.weight", "tok_embeddings.weight"))
            part[key] = tensor if replicated else tensor.chunk(4, 1 if columns else 0)[rank].clone()
        torch.save(part, whole / f"model_tp{rank}_pp0.pt")
    message = refused(whole, dst)
    assert "4" in message
    assert "2" in message


def test_a_vocabulary_that_tp_does_not_divide_is_refused(tmp_path, dst):
    dims = replace(INTERNLM2, vocab=66)
    src = write_hf(tmp_path / "hf", make_model(dims), dims)
    assert "66" in refused(src, dst, UnsupportedError, to="original", tp=4)


def test_more_stages_than_layers_are_refused_with_both_numbers(src, dst):
    message = refused(src, dst, ZooError, to="original", pp=4)
    assert "4" in message
    assert "3" in message


@pytest.mark.parametrize("grid", [{"tp": 0}, {"pp": 0}, {"tp": -1}])
def test_a_grid_of_no_ranks_is_a_usage_error(src, dst, grid):
    refused(src, dst, UsageError, to="original", **grid)


def test_a_target_that_is_no_format_is_a_usage_error(src, dst):
    refused(src, dst, UsageError, to="onnx")


@pytest.mark.parametrize("size", ["lots", "0GB", "-1GB"])
def test_a_shard_size_that_is_none_is_a_usage_error(src, dst, size):
    refused(src, dst, UsageError, max_shard_size=size)
