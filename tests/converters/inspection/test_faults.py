"""`inspect`: each kind of damage is named, and all of them at once."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import converters
from tests.converters.inspection.looking import DIMS, look, whats, with_tokenizer
from tests.converters.oracle import INTERNLM, INTERNLM2, make_model, write_hf, write_original


def lfs_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n")


def web_page(path):
    path.write_text("<!DOCTYPE html><html><body>Sign in</body></html>")


def truncated(path):
    os.truncate(path, path.stat().st_size - 100)


def emptied(path):
    path.write_bytes(b"")


DAMAGES = {lfs_pointer: "Git LFS pointer", web_page: "web page", truncated: "", emptied: "empty"}


@pytest.mark.parametrize(("damage", "word"), DAMAGES.items(), ids=[damage.__name__ for damage in DAMAGES])
@pytest.mark.parametrize("form", ["original", "hf"])
def test_a_file_that_is_no_weights_is_named(original, hf, form, damage, word):
    folder = original if form == "original" else hf
    path = sorted(folder.glob("model_tp*.pt" if form == "original" else "*.safetensors"))[1]
    damage(path)
    named = [what for what, where in look(folder)[1] if where == path.name]
    assert len(named) == 1
    assert word in named[0]


def test_an_index_naming_an_absent_shard(hf):
    (hf / "model-00002-of-00003.safetensors").unlink()
    (what,) = whats(hf)
    assert "the index names model-00002-of-00003.safetensors, which is not there" in what
    assert "no other file holds the 15 tensors" in what


def test_an_index_naming_an_absent_tensor_and_a_tensor_that_no_index_names(hf):
    path = hf / "model-00001-of-00003.safetensors"
    state = load_file(path)
    first = sorted(state)[0]
    state["model.extra.weight"] = state.pop(first)
    save_file(state, path, metadata={"format": "pt"})
    found = whats(hf)
    assert f"the index is stale: it says that {first} is in {path.name}, and it is not" in found
    assert any(f"{first} is missing" in what for what in found)
    assert any("model.extra.weight of shape" in what for what in found)


def test_a_shard_that_no_index_names_is_no_fault_and_is_said(hf):
    shutil.copy(hf / "model-00001-of-00003.safetensors", hf / "model-00004-of-00003.safetensors")
    found = look(hf)[0]
    assert found.findings == ()
    assert "left aside: model-00004-of-00003.safetensors" in found.notes[0]


def test_weights_in_another_container_as_well_are_no_fault(hf):
    (hf / "pytorch_model.bin").write_bytes(b"of the same release")
    assert whats(hf) == []


def test_several_shards_without_an_index(hf):
    (hf / "model.safetensors.index.json").unlink()
    assert whats(hf) == ["there are several shards and no index"]


def test_a_vocabulary_that_the_embedding_does_not_have(hf):
    config = json.loads((hf / "config.json").read_text())
    (hf / "config.json").write_text(json.dumps(config | {"vocab_size": 1000}))
    assert look(hf)[1] == [("vocab_size is 1000, and the embedding has 2048 rows", "config.json")]


def test_a_tokenizer_with_more_tokens_than_the_embedding_has_rows(tmp_path):
    dims = replace(INTERNLM2, vocab=2000)
    src = with_tokenizer(write_hf(tmp_path / "src", make_model(dims), dims))
    assert look(src)[1] == [("it gives ids up to 2047, and the embedding has 2000 rows", "tokenizer.model")]
    (src / "tokenizer.model").unlink()
    (src / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 2000}}}))
    assert look(src)[1] == [("it gives ids up to 2000, and the embedding has 2000 rows", "tokenizer.json")]


def test_a_tokenizer_of_a_smaller_model(tmp_path):
    dims = replace(INTERNLM2, vocab=2048 + 1023)
    src = with_tokenizer(write_hf(tmp_path / "padded", make_model(dims), dims))
    assert whats(src) == []
    dims = replace(INTERNLM2, vocab=2048 + 1024)
    src = with_tokenizer(write_hf(tmp_path / "other", make_model(dims), dims))
    assert whats(src) == ["it gives ids up to 2047, and the embedding has 3072 rows"]


def test_a_tokenizer_of_unigrams_is_counted(hf):
    (hf / "tokenizer.json").write_text(json.dumps({"model": {"vocab": [["a", 0.0]] * 2049}}))
    assert whats(hf) == ["it gives ids up to 2048, and the embedding has 2048 rows"]


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"model": {"vocab": 3}}'])
def test_a_damaged_tokenizer(hf, content):
    (hf / "tokenizer.json").write_bytes(content)
    assert [where for _, where in look(hf)[1]] == ["tokenizer.json"]


def test_a_missing_tokenizer(hf):
    (hf / "tokenizer.model").unlink()
    assert whats(hf) == ["there is no tokenizer"]


def test_a_missing_config(hf, original):
    (hf / "config.json").unlink()
    assert "config.json is missing" in whats(hf)
    (original / "model_config.pt").unlink()
    assert "model_config.pt is missing" in whats(original)


def test_a_missing_cell_of_the_grid(original):
    (original / "model_tp0_pp1.pt").unlink()
    what = "model_tp0_pp1.pt is missing from the grid of 2 tensor-parallel ranks and 2 pipeline stages"
    assert what in whats(original)


def exchange(folder, one, other):
    (folder / one).rename(folder / "aside")
    (folder / other).rename(folder / one)
    (folder / "aside").rename(folder / other)


def test_ranks_that_were_renamed_are_named(original):
    exchange(original, "model_tp0_pp0.pt", "model_tp1_pp0.pt")
    found = look(original)[1]
    assert ("it was saved as model_tp1_pp0.pt", "model_tp0_pp0.pt") in found
    assert ("it was saved as model_tp0_pp0.pt", "model_tp1_pp0.pt") in found


def test_stages_that_were_exchanged_are_noticed_by_what_they_hold(tmp_path, original):
    """Also where the files do not say under which name they were saved."""
    converters.convert(original, tmp_path / "ours", to="original", tp=1, pp=2)
    assert look(tmp_path / "ours")[1] == []
    exchange(tmp_path / "ours", "model_tp0_pp0.pt", "model_tp0_pp1.pt")
    assert look(tmp_path / "ours")[1] == [
        ("its name says stage 0 of 2, and it holds no tok_embeddings.weight", "model_tp0_pp0.pt"),
        (
            "its name says stage 1 of 2, and it holds tok_embeddings.weight, which only the first stage has",
            "model_tp0_pp1.pt",
        ),
    ]


def test_a_last_stage_without_its_head(tmp_path):
    """As if the stages after it were missing."""
    src = write_original(tmp_path / "src", make_model(DIMS), DIMS, 1, (2, 2, 2))
    (with_tokenizer(src) / "model_tp0_pp2.pt").unlink()
    found = look(src)[1]
    assert ("its name says stage 1 of 2, and it holds no output.weight", "model_tp0_pp1.pt") in found
    assert ("its files hold 4 layers, and its config says 6", "model_config.pt") in found


def test_a_rank_that_was_copied_over_another(original):
    shutil.copy(original / "model_tp0_pp1.pt", original / "model_tp1_pp1.pt")
    found = look(original)[1]
    assert ("it holds the same weights as model_tp0_pp1.pt", "model_tp1_pp1.pt") in found


def test_a_stage_that_was_copied_over_another(tmp_path):
    src = with_tokenizer(write_original(tmp_path / "src", make_model(DIMS), DIMS, 1, (1, 2, 2, 1)))
    converters.convert(src, tmp_path / "ours", to="original", pp=3)
    assert look(tmp_path / "ours")[1] == []
    shutil.copy(src / "model_tp0_pp1.pt", src / "model_tp0_pp2.pt")
    found = look(src)[1]
    assert ("it holds the same weights as model_tp0_pp1.pt", "model_tp0_pp2.pt") in found


def test_ranks_that_are_alike_where_samples_are_taken_are_no_copies(original):
    """Weights of ranks that begin and end alike: what decides is one tensor read in full."""
    state = torch.load(original / "model_tp0_pp1.pt", weights_only=True)
    for tensor in state.values():
        if tensor.dim() == 2:
            flat = tensor.view(-1)
            flat[len(flat) // 4] = 1 - flat[len(flat) // 4]
    torch.save(state, original / "model_tp1_pp1.pt")
    assert whats(original) == []


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("model_tp0_wp1_pp0.pt", "weight parallelism"),
        ("model_tp0_pp0_dp1.pt", "FSDP"),
        ("model_moe_layer0_expert1_tp0.pt", "experts"),
        ("model_tp0_something.pt", "no such file name"),
    ],
)
def test_files_of_variants_that_are_not_supported(original, name, word):
    shutil.copy(original / "model_tp0_pp0.pt", original / name)
    assert any(word in what for what in whats(original))


def change(path, edit):
    """Load a state dict or a config, edit it, save it as it was."""
    state = torch.load(path, weights_only=True)
    edit(state)
    torch.save(state, path)


def test_tensors_of_another_dtype(original):
    def widen(state):
        for layer in (0, 1):
            name = f"layers.{layer}.attention_norm.weight"
            state[name] = state[name].float()

    change(original / "model_tp1_pp0.pt", widen)
    change(original / "model_tp0_pp1.pt", widen)
    what = "layers.0.attention_norm.weight has the element type F32 where BF16 is expected (and 1 more in it)"
    assert look(original)[1] == [(what, "model_tp0_pp1.pt"), (what, "model_tp1_pp0.pt")]


def test_weights_of_a_type_that_is_not_floating_point(tmp_path):
    src = with_tokenizer(write_hf(tmp_path / "src", make_model(DIMS), DIMS))
    path = src / "model.safetensors"
    save_file({name: tensor.int() for name, tensor in load_file(path).items()}, path)
    (what,) = whats(src)
    assert "has the element type I32, and only BF16, F16, F32, F64 are supported" in what


def test_shapes_names_and_absent_tensors_are_named_file_by_file(original):
    change(original / "model_tp0_pp0.pt", lambda state: state.pop("layers.1.ffn_norm.weight"))
    change(original / "model_tp1_pp0.pt", lambda state: state.update(surplus=torch.ones(3).bfloat16()))

    def cut(state):
        state["layers.2.attention.wo.weight"] = state["layers.2.attention.wo.weight"][:, 1:].clone()

    change(original / "model_tp1_pp1.pt", cut)
    assert look(original)[1] == [
        ("layers.1.ffn_norm.weight is missing; a tensor of shape [128] is expected", "model_tp0_pp0.pt"),
        ("surplus of shape [3] has no place: no such tensor is expected", "model_tp1_pp0.pt"),
        ("layers.2.attention.wo.weight has shape [128, 63] where [128, 64] is expected", "model_tp1_pp1.pt"),
    ]


def test_what_does_not_fit_is_named_although_other_files_are_damaged(original, hf):
    lfs_pointer(original / "model_tp0_pp0.pt")
    change(original / "model_tp1_pp0.pt", lambda state: state.pop("layers.1.ffn_norm.weight"))
    change(original / "model_config.pt", lambda config: config.update(vocab_size=1000))
    found = look(original)[1]
    assert ("vocab_size is 1000, and the embedding has 2048 rows", "model_config.pt") in found
    assert (
        "layers.1.ffn_norm.weight is missing; a tensor of shape [128] is expected",
        "model_tp1_pp0.pt",
    ) in found
    assert len(found) == 3
    truncated(hf / "model-00002-of-00003.safetensors")
    assert len(whats(hf)) == 1


def test_more_bytes_than_the_header_describes(original, hf):
    for path in (original / "model_tp1_pp0.pt", hf / "model-00001-of-00003.safetensors"):
        with path.open("ab") as file:
            file.write(b"more")
    assert look(original)[1] == [("more bytes follow the end of its directory", "model_tp1_pp0.pt")]
    ((what, where),) = look(hf)[1]
    assert "of a file of" in what
    assert where == "model-00001-of-00003.safetensors"


def test_what_only_opening_it_shows_is_named_too(tmp_path):
    """w2 and w3 of equal shapes."""
    dims = replace(INTERNLM, inter=INTERNLM.hidden, vocab=2048)
    src = with_tokenizer(write_original(tmp_path / "src", make_model(dims), dims))
    (what,) = whats(src)
    assert "mlp_order is stated neither by the checkpoint" in what
    assert whats(src, given={"mlp_order": "up_down"}) == []


def test_a_config_that_is_not_supported_beside_a_damaged_file(original):
    change(original / "model_config.pt", lambda config: config.update(num_chunks=2))
    truncated(original / "model_tp0_pp0.pt")
    assert any("num_chunks is 2, and only 1 is supported" in what for what in whats(original))
    assert len(whats(original)) == 2


@pytest.mark.parametrize(
    ("names", "entry"), [("hf", {"rotary": 5}), ("llama", {"rope_parameters": 7}), ("hf", {"model_type": []})]
)
def test_a_config_of_which_no_sense_can_be_made(tmp_path, names, entry):
    dims = replace(INTERNLM, vocab=2048)
    src = with_tokenizer(write_hf(tmp_path / "src", make_model(dims), dims, names, **entry))
    ((what, where),) = look(src)[1]
    assert f"{next(iter(entry))} " in what
    assert where == "config.json"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.model", "tokenizer_config.json"])
@pytest.mark.parametrize("damage", [lfs_pointer, web_page])
def test_a_small_file_that_is_something_else(hf, name, damage):
    damage(hf / name)
    ((what, where),) = look(hf)[1]
    assert where == name
    assert DAMAGES[damage] in what


def test_a_damaged_record_of_a_conversion(tmp_path):
    src = with_tokenizer(write_hf(tmp_path / "src", make_model(DIMS), DIMS, "llama"))
    (src / "conversion.json").write_text('{"family": ')
    ((what, where),) = look(src)[1]
    assert "not valid JSON" in what
    assert where == "conversion.json"


def test_a_file_that_leads_nowhere(hf):
    path = hf / "model-00002-of-00003.safetensors"
    path.unlink()
    path.symlink_to(hf / "blobs" / "absent")
    assert look(hf)[1] == [("there is no such file", path.name)]


def test_everything_that_is_wrong_is_named_at_once(original):
    lfs_pointer(original / "model_tp0_pp0.pt")
    web_page(original / "model_tp1_pp0.pt")
    (original / "model_tp1_pp1.pt").unlink()
    (original / "tokenizer.model").unlink()
    found = " ".join(whats(original))
    for word in ("LFS pointer", "web page", "is missing from the grid", "no tokenizer"):
        assert word in found
