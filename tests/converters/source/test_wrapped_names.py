"""Names that wrappers put before a model's, state dicts inside others, tensors stored twice."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.converters.inspection.looking import look, whats, with_tokenizer
from tests.converters.oracle import INTERNLM, INTERNLM2, make_model, write_hf, write_original

DIMS = replace(INTERNLM2, layers=2, hidden=32, heads=4, kv_heads=2, inter=48, vocab=2048)
HEADS = ("output.weight", "lm_head.weight")


@pytest.fixture
def sound(tmp_path):
    return with_tokenizer(write_hf(tmp_path / "sound", make_model(DIMS), DIMS))


def copied(folder, name, rename):
    """The same checkpoint with its tensors renamed."""
    src = shutil.copytree(folder, folder.with_name(name))
    path = src / "model.safetensors"
    save_file(
        {rename(key): tensor for key, tensor in load_file(path).items()}, path, metadata={"format": "pt"}
    )
    return src


PREFIXES = [
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "_fsdp_wrapped_module.",
    "_forward_module.",
    "base_model.model.",
    "pretrained_model.",
    "language_model.",
    "llm.",
    "transformer.",
    "model.",
]


@pytest.mark.parametrize("names", ["hf", "llama"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_taken_off_and_said(tmp_path, zoo, names, prefix):
    sound = with_tokenizer(write_hf(tmp_path / "sound", make_model(DIMS), DIMS, names))
    src = copied(sound, "src", lambda name: prefix + name)
    code, _, notes = zoo("convert", src, tmp_path / "dst", "--to", "llama")
    assert code == 0
    assert "which was taken off" in notes
    for part in prefix.split(".")[:-1]:
        assert part in notes
    assert zoo("compare", tmp_path / "dst", sound)[0] == 0
    assert whats(src) == []
    assert any("taken off" in note for note in look(src)[0].notes)


@pytest.mark.parametrize("names", ["hf", "llama"])
def test_the_language_model_of_newer_transformers_has_its_head_outside(tmp_path, zoo, names):
    sound = with_tokenizer(write_hf(tmp_path / "sound", make_model(DIMS), DIMS, names))

    def inside(name):
        return name if name in HEADS else name.replace("model.", "model.language_model.", 1)

    assert zoo("compare", copied(sound, "src", inside), sound)[0] == 0


def test_marks_of_wrappers_inside_names_are_taken_off(sound, zoo):
    def wrapped(name):
        return name.replace(".attention.", "._fsdp_wrapped_module._checkpoint_wrapped_module.attention.")

    assert zoo("compare", copied(sound, "src", wrapped), sound)[0] == 0


@pytest.mark.parametrize("dims", [INTERNLM, INTERNLM2], ids=lambda dims: dims.family)
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.model."])
def test_the_cells_of_a_grid_may_have_a_prefix_too(tmp_path, zoo, dims, prefix):
    src = write_original(tmp_path / "src", make_model(dims), dims, 2, (1, 2))
    sound = shutil.copytree(src, tmp_path / "sound")
    for cell in src.glob("model_tp*.pt"):
        state = torch.load(cell, weights_only=True)
        torch.save({prefix + name: tensor for name, tensor in state.items()}, cell)
    assert zoo("compare", src, sound)[0] == 0


def test_a_prefix_of_some_names_alone_is_left_and_refused(sound, tmp_path, zoo):
    src = copied(sound, "src", lambda name: f"module.{name}" if "layers.0" in name else name)
    assert zoo("convert", src, tmp_path / "dst", "--to", "llama")[0] == 6


def test_two_names_that_become_one_are_refused(sound, tmp_path, zoo):
    path = sound / "model.safetensors"
    state = load_file(path)
    twice = {
        f"{name[:5]}._orig_mod{name[5:]}": t + 1 for name, t in state.items() if name == "model.norm.weight"
    }
    save_file(state | twice, path)
    code, _, err = zoo("convert", sound, tmp_path / "dst", "--to", "llama")
    assert (code, "model.norm.weight is stored twice" in err) == (6, True)


@pytest.mark.parametrize("key", ["model", "state_dict", "module", "model_state_dict"])
def test_a_state_dict_beside_a_trainers_state_is_found_and_said(sound, tmp_path, zoo, key):
    state = load_file(sound / "model.safetensors")
    src = shutil.copytree(sound, tmp_path / "src")
    (src / "model.safetensors").unlink()
    optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"step": 3, key: state, "optimizer": optimizer}, src / "pytorch_model.bin")
    code, _, notes = zoo("convert", src, tmp_path / "dst", "--to", "llama")
    assert code == 0
    assert f"under '{key}'" in notes
    assert zoo("compare", tmp_path / "dst", sound)[0] == 0


@pytest.fixture
def shards(tmp_path):
    return with_tokenizer(write_hf(tmp_path / "shards", make_model(DIMS), DIMS, files=2))


def doubled(shards, change):
    """The first tensor of the first shard in the second one as well."""
    one, other = sorted(shards.glob("*.safetensors"))
    name = sorted(load_file(one))[0]
    save_file(load_file(other) | {name: change(load_file(one)[name])}, other, metadata={"format": "pt"})
    return name


def test_a_tensor_in_two_shards_with_equal_bytes_is_taken_once_and_said(shards, sound, tmp_path, zoo):
    name = doubled(shards, lambda tensor: tensor)
    code, _, notes = zoo("convert", shards, tmp_path / "dst", "--to", "llama")
    assert code == 0
    assert f"taken once: {name} in model-00002-of-00002.safetensors" in notes
    assert zoo("compare", tmp_path / "dst", sound)[0] == 0
    assert whats(shards) == []


@pytest.mark.parametrize(
    "change",
    [lambda t: t.flip(0), lambda t: t[:1].clone(), lambda t: t.float()],
    ids=["values", "shape", "element type"],
)
def test_a_tensor_in_two_shards_that_differs_is_refused_with_both_files(shards, tmp_path, zoo, change):
    name = doubled(shards, change)
    code, _, err = zoo("convert", shards, tmp_path / "dst", "--to", "llama")
    assert code == 6
    for word in (name, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        assert word in err
    assert any(name in what for what in whats(shards))
