"""Hugging Face and original checkpoints become the grid that an InternEvo job of that tp and pp loads."""

from __future__ import annotations

import math
import zipfile
from dataclasses import replace

import pytest
import torch

import converters
from tests.converters.bits import assert_same_cells, to_bits
from tests.converters.oracle import (
    BOTH,
    EMBEDDING_KEYS,
    INTERNLM,
    Variant,
    cells,
    make_model,
    read_cells,
    read_config,
    stages_of,
    variant_of,
    write_hf,
    write_original,
)

FAMILY = pytest.mark.parametrize("dims", BOTH, ids=lambda dims: dims.family)


def assert_holds(folder, model, dims, tp, pp):
    """The folder is the model at that grid, in the spelling it says it is in."""
    how = variant_of(folder, dims)
    assert_same_cells(read_cells(folder), cells(model, dims, tp, stages_of(dims.layers, pp), how))


@FAMILY
@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 1), (4, 1), (8, 1), (1, 3), (2, 2), (8, 2)])
def test_hf_is_cut_into_any_grid(tmp_path, dims, tp, pp):
    model = make_model(dims)
    src = write_hf(tmp_path / "src", model, dims)
    converters.convert(src, tmp_path / "dst", to="original", tp=tp, pp=pp)
    assert_holds(tmp_path / "dst", model, dims, tp, pp)


@FAMILY
@pytest.mark.parametrize("source", [(1, (3,)), (4, (1, 2)), (8, (2, 1))], ids=str)
@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 3), (8, 2)])
def test_original_is_cut_anew(tmp_path, dims, source, tp, pp):
    model = make_model(dims)
    src = write_original(tmp_path / "src", model, dims, *source)
    converters.convert(src, tmp_path / "dst", to="original", tp=tp, pp=pp)
    assert_holds(tmp_path / "dst", model, dims, tp, pp)


@FAMILY
@pytest.mark.parametrize("adapt_hf", [True, False])
def test_a_new_grid_keeps_what_model_config_says(tmp_path, dims, adapt_hf):
    how = Variant(adapt_hf=adapt_hf, embed_split_hidden=False)
    src = write_original(tmp_path / "src", make_model(dims), dims, 2, how=how)
    converters.convert(src, tmp_path / "dst", to="original", tp=4)
    before, after = read_config(src), read_config(tmp_path / "dst")
    assert {key: after[key] for key in before} == before
    assert_holds(tmp_path / "dst", make_model(dims), dims, 4, 1)


@FAMILY
def test_layers_left_over_go_to_the_last_stages_as_internevo_shares_them(tmp_path, dims):
    dims = replace(dims, layers=7)
    src = write_hf(tmp_path / "src", make_model(dims), dims)
    converters.convert(src, tmp_path / "dst", to="original", pp=4)
    prefix = {"internlm": "blocks.", "internlm2": "layers."}[dims.family]
    found = [
        len({key.split(".")[1] for key in read_cells(tmp_path / "dst")[0, p] if key.startswith(prefix)})
        for p in range(4)
    ]
    assert found == [1, 2, 2, 2]


@FAMILY
@pytest.mark.parametrize("split_hidden", [True, False])
def test_the_embedding_has_the_name_that_internevos_module_for_it_has(tmp_path, dims, split_hidden):
    """Its loader only warns of a name it misses, and would train on random embeddings."""
    src = write_hf(tmp_path / "src", make_model(dims), dims)
    given = {"embed_split_hidden": split_hidden}
    converters.convert(src, tmp_path / "dst", to="original", tp=2, given=given)
    assert read_config(tmp_path / "dst")["embed_split_hidden"] is split_hidden
    assert EMBEDDING_KEYS[dims.family][not split_hidden] in read_cells(tmp_path / "dst")[0, 0]
    assert_holds(tmp_path / "dst", make_model(dims), dims, 2, 1)


@FAMILY
def test_embedding_is_in_the_first_stage_alone_and_the_head_in_the_last(tmp_path, dims):
    src = write_hf(tmp_path / "src", make_model(dims), dims)
    converters.convert(src, tmp_path / "dst", to="original", tp=2, pp=3)
    for (_, stage), state in read_cells(tmp_path / "dst").items():
        assert (set(EMBEDDING_KEYS[dims.family]) & set(state) != set()) is (stage == 0)
        assert ({"head.weight", "output.weight"} & set(state) != set()) is (stage == 2)
        assert ("norm.weight" in state) is (stage == 2)


@FAMILY
def test_model_config_has_what_internevo_and_its_converter_read(tmp_path, dims):
    src = write_hf(tmp_path / "src", make_model(dims), dims)
    converters.convert(src, tmp_path / "dst", to="original", tp=2)
    config = read_config(tmp_path / "dst")
    assert config["num_attention_heads"] == dims.heads
    assert config["hidden_size"] == dims.hidden
    assert config["num_layers"] == dims.layers
    assert config["vocab_size"] == dims.vocab
    assert config["layer_norm_epsilon"] == dims.eps
    assert config["norm_type"] == "rmsnorm"
    assert config["dtype"] is torch.bfloat16
    assert config["no_bias"] is not dims.biased
    assert config["embed_split_hidden"] in (True, False)
    assert config["rope_base"] == dims.rope_base
    assert config["num_chunks"] == 1
    if dims.family == "internlm2":
        assert config["num_kv_attention_heads"] == dims.kv_heads
        assert config["adapt_hf"] is True  # as revert_internlm2.py of InternEvo writes it
        assert config["norm_head"] is False


@FAMILY
@pytest.mark.parametrize(("hidden", "inter"), [(96, 256), (128, 512), (96, 768)])
def test_mlp_ratio_gives_the_width_back_by_internevos_rounding(tmp_path, dims, hidden, inter):
    dims = replace(dims, layers=1, hidden=hidden, inter=inter)
    src = write_hf(tmp_path / "src", make_model(dims), dims)
    converters.convert(src, tmp_path / "dst", to="original")
    ratio = read_config(tmp_path / "dst")["mlp_ratio"]
    assert 256 * math.ceil(int(hidden * ratio) / 256) == inter


@FAMILY
@pytest.mark.parametrize("source", ["hf", "original"])
def test_each_rank_holds_its_own_bytes_and_no_others(tmp_path, dims, source):
    model = make_model(dims)
    write = write_hf if source == "hf" else write_original
    converters.convert(write(tmp_path / "src", model, dims), tmp_path / "dst", to="original", tp=8, pp=2)
    for path in (tmp_path / "dst").glob("model_tp*.pt"):
        state = torch.load(path, weights_only=True)
        own = sum(tensor.nbytes for tensor in state.values())
        assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in state.values())
        assert all(tensor.is_contiguous() for tensor in state.values())
        with zipfile.ZipFile(path) as archive:
            assert sum(e.file_size for e in archive.infolist() if "/data/" in e.filename) == own


@FAMILY
def test_every_file_is_a_sound_archive_that_torch_maps(tmp_path, dims):
    src = write_hf(tmp_path / "src", make_model(dims), dims)
    converters.convert(src, tmp_path / "dst", to="original", tp=2, pp=2)
    for path in (tmp_path / "dst").glob("*.pt"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    for path in (tmp_path / "dst").glob("model_tp*.pt"):
        mapped = torch.load(path, weights_only=True, mmap=True)
        loaded = torch.load(path, weights_only=True)
        assert all((to_bits(mapped[name]) == to_bits(loaded[name])).all() for name in loaded)


def test_llama_named_tensors_go_back_to_the_family_they_came_from(tmp_path):
    for dims in BOTH:
        model = make_model(dims)
        src = write_original(tmp_path / dims.family, model, dims, 2)
        llama, back = tmp_path / f"{dims.family}-llama", tmp_path / f"{dims.family}-back"
        converters.convert(src, llama, to="llama")
        converters.convert(llama, back, to="original", tp=4, pp=2)
        assert_holds(back, model, dims, 4, 2)


@pytest.mark.parametrize("container", ["bin", "safetensors"])
def test_sharded_hf_of_either_container_is_cut(tmp_path, container):
    model = make_model(INTERNLM)
    src = write_hf(tmp_path / "src", model, INTERNLM, container=container, files=3)
    converters.convert(src, tmp_path / "dst", to="original", tp=4)
    assert_holds(tmp_path / "dst", model, INTERNLM, 4, 1)


def test_where_both_containers_lie_side_by_side_safetensors_are_read(tmp_path):
    model = make_model(INTERNLM)
    src = write_hf(tmp_path / "src", model, INTERNLM)
    other = write_hf(tmp_path / "other", make_model(INTERNLM, seed=1), INTERNLM, container="bin", files=2)
    for path in other.glob("pytorch_model*"):
        path.rename(src / path.name)
    converters.convert(src, tmp_path / "dst", to="original", tp=2)
    assert_holds(tmp_path / "dst", model, INTERNLM, 2, 1)
