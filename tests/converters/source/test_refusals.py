"""What must stop a conversion before a byte is written, and what the one sentence must name."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from converters.errors import IntegrityError, UnsupportedError
from tests.converters.oracle import (
    INTERNLM2,
    make_model,
    write_hf,
    write_original,
)
from tests.converters.refusal import refused


def change(path, edit):
    """Load one rank's file, edit its state dict in place, save it again."""
    state = torch.load(path, weights_only=True)
    edit(state)
    torch.save(state, path)


def norm_key(dims):
    return "blocks.0.norm1.weight" if dims.family == "internlm" else "layers.0.attention_norm.weight"


def gate_key(dims):
    return "blocks.0.mlp.w1.weight" if dims.family == "internlm" else "layers.0.feed_forward.w1.weight"


# --- tensors ------------------------------------------------------------------------------------------------


def test_a_rank_that_differs_in_a_replicated_tensor_is_named(src, dst, dims):
    change(src / "model_tp2_pp0.pt", lambda state: state[norm_key(dims)][3].add_(1))
    message = refused(src, dst, IntegrityError)
    assert norm_key(dims) in message
    assert "model_tp2_pp0.pt" in message


def test_ranks_are_compared_before_anything_is_written_and_without_evidence_too(src, dst, dims):
    change(src / "model_tp2_pp0.pt", lambda state: state[norm_key(dims)][3].add_(1))
    assert norm_key(dims) in refused(src, dst, IntegrityError, evidence=False)


def test_one_differing_bit_at_the_end_of_the_last_stages_norm_is_enough(src, dst):
    def flip(state):
        state["norm.weight"].view(torch.int16)[-1] ^= 1

    change(src / "model_tp3_pp1.pt", flip)
    message = refused(src, dst, IntegrityError)
    assert "norm.weight" in message
    assert "model_tp3_pp1.pt" in message


def test_an_unknown_tensor_is_named_with_its_file(src, dst):
    change(src / "model_tp1_pp1.pt", lambda state: state.update({"blocks.0.lora.weight": torch.ones(2, 2)}))
    message = refused(src, dst)
    assert "blocks.0.lora.weight" in message
    assert "model_tp1_pp1.pt" in message


def test_an_unknown_tensor_in_every_rank_is_named(tmp_path, src, dst):
    for path in src.glob("model_tp*_pp0.pt"):
        change(path, lambda state: state.update({"layers.0.attention.q_norm.weight": torch.ones(4)}))
    assert "layers.0.attention.q_norm.weight" in refused(src, dst)


def test_a_missing_tensor_is_named_with_its_file(src, dst, dims):
    change(src / "model_tp3_pp1.pt", lambda state: state.pop(gate_key(dims)))
    message = refused(src, dst)
    assert gate_key(dims) in message
    assert "model_tp3_pp1.pt" in message


def test_a_tensor_missing_from_every_rank_is_named(src, dst, dims):
    for path in src.glob("model_tp*_pp1.pt"):
        change(path, lambda state: state.pop(gate_key(dims)))
    assert gate_key(dims) in refused(src, dst)


def test_a_missing_head_is_named(src, dst, dims):
    key = "head.weight" if dims.family == "internlm" else "output.weight"
    for path in src.glob("model_tp*_pp1.pt"):
        change(path, lambda state: state.pop(key))
    assert key in refused(src, dst)


def test_a_tensor_of_another_shape_is_said_with_both_shapes(src, dst, dims):
    wrong = torch.ones(13, dims.hidden).bfloat16()
    change(src / "model_tp1_pp0.pt", lambda state: state.update({gate_key(dims): wrong}))
    message = refused(src, dst)
    assert gate_key(dims) in message
    assert "model_tp1_pp0.pt" in message
    assert f"[13, {dims.hidden}]" in message
    assert f"[{dims.inter // 4}, {dims.hidden}]" in message


def test_a_tensor_of_another_dtype_is_said_with_both_dtypes(src, dst, dims):
    change(
        src / "model_tp1_pp0.pt", lambda state: state.update({gate_key(dims): state[gate_key(dims)].float()})
    )
    message = refused(src, dst)
    assert gate_key(dims) in message
    assert "model_tp1_pp0.pt" in message
    assert "F32" in message
    assert "BF16" in message


def test_whole_numbers_are_no_weights(src, dst):
    for path in src.glob("model_tp*.pt"):
        change(path, lambda state: state.update({name: t.view(torch.int16) for name, t in state.items()}))
    message = refused(src, dst, UnsupportedError)
    assert "I16" in message
    assert "BF16, F16, F32, F64" in message


def test_a_tensor_with_and_without_the_prefix_is_refused(src, dst, dims):
    key = gate_key(dims)
    change(src / "model_tp1_pp0.pt", lambda state: state.update({f"model.{key}": state[key] + 1}))
    message = refused(src, dst, IntegrityError)
    assert f"{key} is stored twice" in message
    assert "model_tp1_pp0.pt" in message


def test_a_model_config_that_disagrees_with_the_tensors_is_refused(tmp_path, dst, dims):
    for number, wrong in enumerate(({"hidden_size": 256}, {"num_layers": 4}, {"vocab_size": 128})):
        src = write_original(tmp_path / f"wrong{number}", make_model(dims), dims, **wrong)
        refused(src, dst)


def test_more_kv_heads_in_the_config_than_in_the_tensors_is_refused(tmp_path, dst):
    src = write_original(tmp_path / "wrong", make_model(INTERNLM2), INTERNLM2, num_kv_attention_heads=4)
    refused(src, dst)


def test_an_index_naming_an_absent_shard_is_refused(tmp_path, dst, dims):
    src = write_hf(tmp_path / "hf", make_model(dims), dims, files=3)
    (src / "model-00002-of-00003.safetensors").unlink()
    message = refused(src, dst, IntegrityError, to="original")
    assert "the index names model-00002-of-00003.safetensors" in message


def test_an_unknown_tensor_of_hf_is_named(tmp_path, dst, dims):
    src = write_hf(tmp_path / "hf", make_model(dims), dims)
    tensors = load_file(src / "model.safetensors")
    save_file(tensors | {"model.layers.0.extra.weight": torch.ones(2)}, src / "model.safetensors")
    assert "model.layers.0.extra.weight" in refused(src, dst, to="original")


def test_a_missing_tensor_of_hf_is_named(tmp_path, dst, dims):
    src = write_hf(tmp_path / "hf", make_model(dims), dims)
    tensors = load_file(src / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, src / "model.safetensors")
    assert "model.norm.weight" in refused(src, dst, to="original")


def test_a_layer_more_than_the_config_says_is_refused(tmp_path, dst, dims):
    src = write_hf(tmp_path / "hf", make_model(dims), dims, num_hidden_layers=2)
    message = refused(src, dst, to="original")
    assert "3 layers" in message
    assert "2" in message


# --- harm ---------------------------------------------------------------------------------------------------


class Shell:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("file", ["model_tp1_pp0.pt", "model_config.pt"])
def test_a_pickle_that_would_run_a_command_is_refused_unrun(tmp_path, src, dst, file):
    proof = tmp_path / "ran"
    torch.save({"norm.weight": Shell(f'echo > "{proof}"')}, src / file)
    message = refused(src, dst)
    assert "system" in message
    assert file in message
    assert not proof.exists()


def test_a_bin_shard_that_would_run_a_command_is_refused_unrun(tmp_path, dst, dims):
    src = write_hf(tmp_path / "hf", make_model(dims), dims, container="bin")
    torch.save({"x": Shell(f'echo > "{tmp_path / "ran"}"')}, src / "pytorch_model.bin")
    assert "system" in refused(src, dst, to="original")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 100, -1, -1000])
def test_a_truncated_file_is_refused_by_name(src, dst, keep):
    path = src / "model_tp1_pp1.pt"
    path.write_bytes(path.read_bytes()[:keep])
    assert "model_tp1_pp1.pt" in refused(src, dst)


def test_a_git_lfs_pointer_in_place_of_weights_is_refused(src, dst):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
    (src / "model_tp1_pp1.pt").write_text(text)
    message = refused(src, dst)
    assert "model_tp1_pp1.pt" in message
    assert "LFS" in message


def test_config_json_that_is_no_json_is_refused_by_name(tmp_path, dst, dims):
    src = write_hf(tmp_path / "hf", make_model(dims), dims)
    (src / "config.json").write_text("{")
    assert "config.json" in refused(src, dst, to="original")


def test_a_config_without_a_size_names_the_field(tmp_path, dst, dims):
    src = write_hf(tmp_path / "hf", make_model(dims), dims, num_attention_heads=...)
    assert "num_attention_heads" in refused(src, dst, to="original")
