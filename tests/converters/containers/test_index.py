"""An index that is wrong, or not there, beside weights that are whole or not: the headers decide."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.converters.bits import assert_same, to_bits
from tests.converters.inspection.looking import whats, with_tokenizer
from tests.converters.oracle import INTERNLM2, make_model, write_hf

DIMS = replace(INTERNLM2, layers=2, hidden=32, heads=4, kv_heads=2, inter=48, vocab=2048)
INDEX = "model.safetensors.index.json"


@pytest.fixture
def sound(tmp_path):
    return write_hf(tmp_path / "sound", make_model(DIMS), DIMS)


@pytest.fixture
def hf(tmp_path):
    return with_tokenizer(write_hf(tmp_path / "hf", make_model(DIMS), DIMS, files=3))


def weight_map(folder, change):
    content = json.loads((folder / INDEX).read_text())
    content["weight_map"] = change(content["weight_map"])
    (folder / INDEX).write_text(json.dumps(content))


def of_another_split(hf):
    """As when an index is left from a save in more shards (huggingface.co/Neph0s/CoSER-Llama-3.1-70B, 3)."""
    weight_map(
        hf, lambda names: {k: f"model-{n % 6 + 1:05d}-of-00006.safetensors" for n, k in enumerate(names)}
    )


def of_another_model(hf):
    weight_map(hf, lambda names: {f"other.{k}": "model-00001-of-00001.safetensors" for k in names})


def with_some_old_shards(hf):
    of_another_split(hf)
    shutil.copy(hf / "model-00001-of-00003.safetensors", hf / "model-00002-of-00006.safetensors")


def with_a_computed_buffer(hf):
    """huggingface_hub 4728: an index names inv_freq, which no shard holds."""
    name = "model.layers.0.attention.rotary_emb.inv_freq"
    weight_map(hf, lambda names: names | {name: "model-00001-of-00003.safetensors"})


def with_a_tensor_too_many(hf):
    weight_map(hf, lambda names: names | {"model.extra.weight": "model-00001-of-00003.safetensors"})


def without_a_tensor(hf):
    weight_map(hf, lambda names: {k: file for k, file in names.items() if k != "model.norm.weight"})


def with_tensors_in_each_others_files(hf):
    weight_map(hf, lambda names: dict(zip(names, reversed(names.values()), strict=True)))


def with_a_shard_saved_by_a_browser(hf):
    (hf / "model-00002-of-00003.safetensors").rename(hf / "model-00002-of-00003 (1).safetensors")


def no_index(hf):
    (hf / INDEX).unlink()


def damaged(hf):
    (hf / INDEX).write_text("<!DOCTYPE html><html></html>")


WHOLE = [
    of_another_split,
    of_another_model,
    with_some_old_shards,
    with_a_computed_buffer,
    with_a_tensor_too_many,
    without_a_tensor,
    with_tensors_in_each_others_files,
    with_a_shard_saved_by_a_browser,
    no_index,
    damaged,
]


@pytest.mark.parametrize("fault", WHOLE, ids=lambda fault: fault.__name__)
def test_whole_weights_are_converted_whatever_their_index_says(hf, sound, tmp_path, zoo, fault):
    fault(hf)
    code, _, notes = zoo("convert", hf, tmp_path / "dst", "--to", "hf", "--max-shard-size", "50KB")
    assert code == 0
    assert "the headers of the files say where every tensor is" in notes
    assert zoo("compare", tmp_path / "dst", sound)[0] == 0
    (what,) = whats(hf)
    assert "index" in what
    assert zoo("inspect", hf)[0] == 1
    assert whats(with_tokenizer(tmp_path / "dst")) == []


def test_one_shard_with_the_name_of_a_shard_needs_no_index(hf, sound, tmp_path, zoo):
    (sound / "model.safetensors").rename(sound / "model-00001-of-00001.safetensors")
    assert zoo("compare", sound, hf)[0] == 0
    assert whats(with_tokenizer(sound)) == []


@pytest.mark.parametrize(
    "also", [lambda hf: None, no_index, with_a_tensor_too_many], ids=["", "none", "stale"]
)
def test_a_shard_that_is_missing_is_named_and_nothing_else_is_advised(hf, tmp_path, zoo, also):
    if also:
        also(hf)
    (hf / "model-00002-of-00003.safetensors").unlink()
    code, _, err = zoo("convert", hf, tmp_path / "dst", "--to", "llama")
    assert code == 6
    assert "model-00002-of-00003.safetensors" in err
    assert "fetch model-00002-of-00003.safetensors" in err
    findings = json.loads(zoo("inspect", hf, "--json")[1])["findings"]
    assert len(findings) == 1
    assert findings[0]["fix"] == "fetch model-00002-of-00003.safetensors"


def test_two_whole_sets_of_shards_with_an_index_of_neither_are_asked_about(hf, tmp_path, zoo):
    other = write_hf(tmp_path / "other", make_model(DIMS, 7), DIMS, files=2)
    for file in other.glob("*.safetensors"):
        shutil.copy(file, hf)
    of_another_split(hf)
    code, _, err = zoo("convert", hf, tmp_path / "dst", "--to", "llama")
    assert code == 2
    assert "--weights model-00001-of-00002.safetensors" in err
    args = ("--to", "llama", "--weights", "model-00001-of-00002.safetensors")
    assert zoo("convert", hf, tmp_path / "dst", *args)[0] == 0
    assert zoo("compare", tmp_path / "dst", other)[0] == 0


def test_shards_of_another_save_beside_a_right_index_are_left_aside(hf, sound, tmp_path, zoo):
    other = write_hf(tmp_path / "other", make_model(DIMS, 7), DIMS, files=2)
    for file in other.glob("*.safetensors"):
        shutil.copy(file, hf)
    code, _, notes = zoo("convert", hf, tmp_path / "dst", "--to", "llama")
    assert code == 0
    assert "left aside: model-00001-of-00002.safetensors, model-00002-of-00002.safetensors" in notes
    assert zoo("compare", tmp_path / "dst", sound)[0] == 0


def test_one_whole_file_beside_an_index_of_shards_that_are_gone_is_read(hf, sound, tmp_path, zoo):
    for file in hf.glob("*.safetensors"):
        file.unlink()
    shutil.copy(sound / "model.safetensors", hf)
    assert whats(hf) == []
    assert zoo("compare", hf, sound)[0] == 0


def test_no_advice_destroys(hf, tmp_path, zoo):
    """Whatever is wrong with a folder, no way out that is named removes weights."""
    for n, fault in enumerate(WHOLE):
        folder = shutil.copytree(hf, tmp_path / f"copy{n}")
        fault(folder)
        (folder / "model_best.pt").write_bytes(b"weights")
        out = zoo("inspect", folder)
        assert not any(word in "".join(out[1:]).lower() for word in ("remove", "delete", "unlink"))


@pytest.mark.parametrize("fault", WHOLE, ids=lambda fault: fault.__name__)
def test_a_right_index_is_written_on_request_and_the_old_one_kept(hf, sound, zoo, fault):
    """Judged by the headers as safetensors reads them."""
    fault(hf)
    before = (hf / INDEX).read_bytes() if (hf / INDEX).exists() else None
    held = {file.name: set(load_file(file)) for file in hf.glob("*.safetensors")}
    code, _, notes = zoo("inspect", hf, "--fix-index")
    assert code == 0
    assert f"wrote {INDEX}" in notes
    written = json.loads((hf / INDEX).read_text())
    for name, file in written["weight_map"].items():
        assert name in held[file]
    assert len(written["weight_map"]) == len(load_file(sound / "model.safetensors"))
    assert written["metadata"]["total_size"] == sum(
        tensor.nbytes for tensor in load_file(sound / "model.safetensors").values()
    )
    kept = hf / f"{INDEX}.bak"
    assert (kept.read_bytes() if kept.exists() else None) == before
    code, _, notes = zoo("inspect", hf, "--fix-index")
    assert (code, "nothing was written" in notes) == (0, True)
    assert zoo("compare", hf, sound)[0] == 0


def test_transformers_loads_what_could_not_be_loaded_before(tmp_path, zoo):
    dims = replace(DIMS, dtype="float32")
    src = with_tokenizer(write_hf(tmp_path / "src", make_model(dims), dims, "llama", files=3))
    of_another_split(src)
    with pytest.raises(OSError, match="of-00006"):
        AutoModelForCausalLM.from_pretrained(src, local_files_only=True)
    assert zoo("inspect", src, "--fix-index")[0] == 0
    loaded = AutoModelForCausalLM.from_pretrained(src, local_files_only=True).state_dict()
    assert_same({name: to_bits(tensor) for name, tensor in loaded.items()}, make_model(dims))


def test_an_old_index_that_was_kept_is_never_overwritten(hf, zoo):
    (hf / f"{INDEX}.bak").write_text("mine")
    of_another_split(hf)
    before = (hf / INDEX).read_bytes()
    assert zoo("inspect", hf, "--fix-index")[0] == 0
    assert (hf / f"{INDEX}.bak").read_text() == "mine"
    assert (hf / f"{INDEX}.bak2").read_bytes() == before


def test_no_index_is_written_for_weights_that_are_not_whole(hf, zoo):
    (hf / "model-00002-of-00003.safetensors").unlink()
    before = sorted((path.name, path.read_bytes()) for path in hf.iterdir())
    code, _, err = zoo("inspect", hf, "--fix-index")
    assert code == 6
    assert "fetch model-00002-of-00003.safetensors" in err
    assert sorted((path.name, path.read_bytes()) for path in hf.iterdir()) == before
