"""An index that is wrong, or not there, beside weights that are whole or not: the headers decide."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

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
