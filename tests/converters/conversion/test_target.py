"""What may become of a target: never half of it, never one that holds something else, unless forced."""

from __future__ import annotations

import json
import os

import pytest

import converters
from converters.errors import UnsupportedError, UsageError
from tests.converters.bits import assert_same
from tests.converters.oracle import (
    BOTH,
    INTERNLM,
    INTERNLM2,
    expected,
    make_model,
    read_hf,
    write_hf,
    write_original,
)
from tests.converters.refusal import refused

FAMILY = pytest.mark.parametrize("dims", BOTH, ids=lambda dims: dims.family)


@FAMILY
def test_a_target_that_is_not_empty_is_left_alone_without_force(tmp_path, dims):
    src = write_original(tmp_path / "src", make_model(dims), dims, 2)
    dst = tmp_path / "dst"
    dst.mkdir()
    (dst / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="empty"):
        converters.convert(src, dst, to="hf")
    assert [path.name for path in dst.iterdir()] == ["mine.txt"]
    converters.convert(src, dst, to="hf", force=True)
    assert_same(read_hf(dst), expected(make_model(dims), dims, "hf"))


def test_force_leaves_no_shard_of_an_earlier_conversion_behind(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM), INTERNLM, 2)
    dst = tmp_path / "dst"
    converters.convert(src, dst, to="hf", max_shard_size="10KB")
    converters.convert(src, dst, to="hf", force=True)
    assert_same(read_hf(dst), expected(make_model(INTERNLM), INTERNLM, "hf"))
    assert not (dst / "model.safetensors.index.json").exists()


@pytest.mark.parametrize("force", [False, True])
def test_a_conversion_onto_its_own_source_is_refused(tmp_path, force):
    src = write_original(tmp_path / "src", make_model(INTERNLM), INTERNLM, 2)
    before = {path: path.read_bytes() for path in src.iterdir()}
    with pytest.raises(UsageError):
        converters.convert(src, src, to="original", tp=4, force=force)
    assert {path: path.read_bytes() for path in src.iterdir()} == before


def test_a_target_that_holds_the_source_is_not_replaced_even_by_force(tmp_path):
    src = write_original(tmp_path / "model" / "src", make_model(INTERNLM), INTERNLM, 2)
    before = {path: path.read_bytes() for path in src.iterdir()}
    with pytest.raises(UsageError):
        converters.convert(src, tmp_path / "model", to="hf", force=True)
    assert {path: path.read_bytes() for path in src.iterdir()} == before


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_target_that_is_a_link_to_a_directory_is_written_where_it_leads(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM), INTERNLM)
    disk = tmp_path / "disk"
    (disk / "model").mkdir(parents=True)
    (tmp_path / "dst").symlink_to(disk / "model")
    for force in (False, True):
        converters.convert(src, tmp_path / "dst", to="hf", force=force)
        assert_same(read_hf(disk / "model"), expected(make_model(INTERNLM), INTERNLM, "hf"))
        assert (tmp_path / "dst").is_symlink()
    assert [path.name for path in disk.iterdir()] == ["model"]


def test_an_empty_target_directory_is_used(tmp_path):
    src = write_original(tmp_path / "src", make_model(INTERNLM), INTERNLM)
    (tmp_path / "dst").mkdir()
    converters.convert(src, tmp_path / "dst", to="hf")
    assert_same(read_hf(tmp_path / "dst"), expected(make_model(INTERNLM), INTERNLM, "hf"))


def test_internlm3_has_no_original_format(tmp_path):
    src = write_hf(tmp_path / "hf", make_model(INTERNLM2), INTERNLM2, "llama")
    config = json.loads((src / "config.json").read_text())
    config |= {
        "architectures": ["InternLM3ForCausalLM"],
        "model_type": "internlm3",
        "qkv_bias": False,
        "bias": False,
    }
    (src / "config.json").write_text(json.dumps(config))
    assert "internlm3" in refused(src, tmp_path / "dst", UnsupportedError, to="original")


def test_a_family_nobody_knows_is_named(tmp_path):
    src = write_hf(tmp_path / "hf", make_model(INTERNLM2), INTERNLM2)
    config = json.loads((src / "config.json").read_text())
    config |= {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}
    (src / "config.json").write_text(json.dumps(config))
    assert "gpt2" in refused(src, tmp_path / "dst", UnsupportedError, to="original")
