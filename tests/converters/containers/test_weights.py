"""Which of several sets of weights in a folder is read: the one that stock transformers loads."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import save_file

import converters
import internlm_zoo
from converters.errors import NotFoundError, UsageError
from tests.converters.bits import to_bits
from tests.converters.oracle import INTERNLM2, make_model, write_hf, write_original

DIMS = replace(INTERNLM2, layers=1, hidden=32, heads=4, kv_heads=2, inter=48)
PROBE = "model.layers.0.mlp.up_proj.weight"
SETS = {
    "model.safetensors": {"container": "safetensors", "files": 1},
    "model.safetensors.index.json": {"container": "safetensors", "files": 2},
    "pytorch_model.bin": {"container": "bin", "files": 1},
    "pytorch_model.bin.index.json": {"container": "bin", "files": 2},
}
MODELS = {name: make_model(DIMS, seed) for seed, name in enumerate(SETS)}


def folder_with(path, *names, config=None):
    """A Llama directory that holds each of these sets, every one of another model."""
    path.mkdir()
    for name in names:
        part = write_hf(path / "part", MODELS[name], DIMS, "llama", **SETS[name])
        for file in part.iterdir():
            file.replace(path / file.name)
        part.rmdir()
    if config:
        path.joinpath("config.json").write_text(json.dumps(config))
    return path


def which(bits):
    """The set whose model has this tensor."""
    return next(name for name, model in MODELS.items() if bytes(model[PROBE]) == bytes(bits))


def read_by_us(folder, weights=None):
    checkpoint = converters.open_checkpoint(folder, weights=weights)
    ((_, _, _, found),) = converters.read_tensors(checkpoint, names=[PROBE])
    return which(found)


def loaded_by_transformers(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, dtype=torch.bfloat16
    )
    return which(to_bits(model.state_dict()[PROBE]))


COMBINATIONS = [names for n in (1, 2, 3, 4) for names in itertools.combinations(SETS, n)]


@pytest.mark.parametrize("names", COMBINATIONS, ids=lambda names: "+".join(names))
def test_what_stock_transformers_loads_is_what_is_read(tmp_path, zoo, names):
    src = folder_with(tmp_path / "src", *names)
    taken = loaded_by_transformers(src)
    assert read_by_us(src) == taken
    code, _, notes = zoo("convert", src, tmp_path / "dst", "--to", "llama")
    assert code == 0
    assert loaded_by_transformers(tmp_path / "dst") == taken
    for other in set(names) - {taken}:
        assert f"the weights are {taken}" in notes
        assert other in notes.partition("left aside: ")[2]
    assert ("left aside" in notes) == (len(names) > 1)


@pytest.mark.parametrize("name", SETS)
def test_any_set_can_be_asked_for(tmp_path, name):
    src = folder_with(tmp_path / "src", *SETS)
    assert read_by_us(src, name) == name


def test_every_verb_reads_the_same_set_and_takes_the_same_option(tmp_path, zoo):
    both = folder_with(tmp_path / "both", "model.safetensors", "pytorch_model.bin.index.json")
    alone = {name: folder_with(tmp_path / f"alone{n}", name) for n, name in enumerate(MODELS)}
    first, other = alone["model.safetensors"], alone["pytorch_model.bin.index.json"]
    for chosen, options in (
        (first, ()),
        (other, ("--weights", "pytorch_model.bin.index.json")),
        (other, ("--weights", "pytorch_model-00001-of-00002.bin")),
    ):
        assert zoo("fingerprint", both, *options)[1] == zoo("fingerprint", chosen)[1]
        name = options[1] if options else None
        model, _ = internlm_zoo.load(both, devices=["cpu"], weights=name)
        assert alone[which(to_bits(model.state_dict()[PROBE]))] == chosen
        files = len(list(chosen.glob("*.safetensors"))) + len(list(chosen.glob("*.bin")))
        assert len(json.loads(zoo("inspect", both, "--json", *options)[1])["findings"]) == 1  # no tokenizer
        assert json.loads(zoo("inspect", both, "--json", *options)[1])["files"] == files
    assert zoo("compare", both, first)[0] == 0
    assert zoo("compare", both, other)[0] == 1
    weights = ("--weights", "model.safetensors", "--weights", "pytorch_model.bin.index.json")
    assert zoo("compare", both, both, *weights)[0] == 1
    assert zoo("compare", both, other, "--weights", "pytorch_model.bin.index.json")[0] == 0
    code, _, err = zoo("compare", both, both, *weights, *weights)
    assert (code, "two sides" in err) == (2, True)
    code, _, _ = zoo("load", both, "--plan", "--devices", "cpu", *weights[2:])
    assert code == 0


def test_inspect_says_what_was_left_aside(tmp_path, zoo):
    src = folder_with(tmp_path / "src", *SETS)
    (note,) = [note for note in json.loads(zoo("inspect", src, "--json")[1])["notes"] if "left aside" in note]
    for name in SETS:
        assert name in note


@pytest.mark.parametrize(
    "stray", ["model_best.pt", "my-tune.safetensors", "model.fp16.safetensors", "consolidated.00.pth"]
)
def test_a_stray_file_beside_a_whole_folder_is_left_aside_and_said(tmp_path, zoo, stray):
    src = folder_with(tmp_path / "src", "model.safetensors.index.json")
    torch.save({"x": torch.ones(2)}, src / stray)
    (src / "training_args.bin").write_bytes(b"not weights")
    code, _, notes = zoo("convert", src, tmp_path / "dst", "--to", "llama")
    assert code == 0
    assert f"left aside: {stray}" in notes
    assert "training_args" not in notes
    assert loaded_by_transformers(tmp_path / "dst") == "model.safetensors.index.json"


def test_a_stray_file_beside_a_grid_is_left_aside_and_said(tmp_path, zoo):
    src = write_original(tmp_path / "src", make_model(DIMS), DIMS, 2, (1,))
    torch.save({"x": torch.ones(2)}, src / "model_best.pt")
    for leftover in ("optimizer_tp0_pp0_zo0.pt", "context.pt", "sampler_0.pt", "schedulder.pt"):
        (src / leftover).write_bytes(b"not weights")
    code, _, notes = zoo("convert", src, tmp_path / "dst", "--to", "hf")
    assert code == 0
    assert "left aside: model_best.pt;" in notes
    assert zoo("compare", src, tmp_path / "dst")[0] == 0


@pytest.mark.parametrize(
    "name", ["model_tp0_pp0 (1).pt", "model_tp1.pt", "model_pp1.pt", "model_tp0_pp0_old.pt"]
)
def test_a_file_that_may_be_of_the_grid_is_refused_by_name(tmp_path, zoo, name):
    src = write_original(tmp_path / "src", make_model(DIMS), DIMS)
    shutil.copy(src / "model_tp0_pp0.pt", src / name)
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "hf")
    assert code == 7
    assert name in err


def test_one_file_of_another_name_is_read_when_it_is_asked_for(tmp_path, zoo):
    """Beside either config."""
    src = folder_with(tmp_path / "hf", "model.safetensors")
    (src / "model.safetensors").rename(src / "my-tune.safetensors")
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama")
    assert (code, "--weights my-tune.safetensors" in err) == (4, True)
    assert zoo("convert", src, tmp_path / "dst", "--to", "llama", "--weights", "my-tune.safetensors")[0] == 0
    assert loaded_by_transformers(tmp_path / "dst") == "model.safetensors"
    src = write_original(tmp_path / "original", MODELS["model.safetensors"], DIMS)
    (src / "model_tp0_pp0.pt").rename(src / "model_best.pt")
    code, _, err = zoo("convert", src, tmp_path / "dst2", "--to", "llama", "--weights", "model_best.pt")
    assert code == 0
    assert loaded_by_transformers(tmp_path / "dst2") == "model.safetensors"


@pytest.fixture
def mixed(tmp_path):
    """An original grid and whole hf weights of other values in one folder."""
    src = folder_with(tmp_path / "mixed", "pytorch_model.bin")
    other = write_original(tmp_path / "part", make_model(DIMS, 9), DIMS, 2, (1,))
    for file in other.iterdir():
        file.rename(src / file.name)
    return src


@pytest.mark.parametrize(
    "verb",
    [("convert", "--to", "llama"), ("inspect",), ("fingerprint",), ("compare",), ("generate", "-p", "a")],
)
def test_an_original_and_an_hf_checkpoint_in_one_folder_are_asked_about(tmp_path, zoo, mixed, verb):
    more = {"convert": [tmp_path / "dst"], "compare": [mixed]}.get(verb[0], [])
    code, _, err = zoo(verb[0], mixed, *more, *verb[1:])
    assert code == 2
    assert "model_tp0_pp0.pt and 1 more" in err
    assert "pytorch_model.bin" in err
    assert "--weights original" in err
    assert "--weights hf" in err


def test_either_of_an_original_and_an_hf_checkpoint_can_be_asked_for(tmp_path, zoo, mixed):
    assert read_by_us(mixed, "hf") == "pytorch_model.bin"
    assert read_by_us(mixed, "pytorch_model.bin") == "pytorch_model.bin"
    code, _, err = zoo("convert", mixed, tmp_path / "dst", "--to", "llama", "--weights", "original")
    assert (code, "left aside: pytorch_model.bin" in err) == (0, True)
    alone = write_original(tmp_path / "alone", make_model(DIMS, 9), DIMS, 2, (1,))
    assert zoo("compare", tmp_path / "dst", alone)[0] == 0


def test_a_name_that_is_not_there_is_refused_with_those_that_are(tmp_path, mixed):
    with pytest.raises(NotFoundError) as caught:
        converters.open_checkpoint(mixed, weights="model.safetensors")
    assert "original, pytorch_model.bin" in (caught.value.fix or "")


def test_an_adapter_beside_whole_weights_is_asked_about(tmp_path):
    """transformers 4 with peft loads the base that the adapter names, and without it these weights."""
    src = folder_with(tmp_path / "src", "model.safetensors")
    (src / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere"}')
    (src / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(UsageError) as caught:
        converters.open_checkpoint(src)
    assert "weights='model.safetensors'" in (caught.value.fix or "")
    assert read_by_us(src, "model.safetensors") == "model.safetensors"


def test_weights_that_only_the_config_of_newer_transformers_names_are_asked_about(tmp_path):
    src = folder_with(tmp_path / "src", "model.safetensors", "pytorch_model.bin")
    (src / "pytorch_model.bin").unlink()
    shutil.copy(src / "model.safetensors", src / "best.safetensors")
    config = json.loads((src / "config.json").read_text())
    (src / "config.json").write_text(json.dumps(config | {"transformers_weights": "best.safetensors"}))
    with pytest.raises(UsageError) as caught:
        converters.open_checkpoint(src)
    assert "weights='best.safetensors'" in (caught.value.fix or "")
    assert "weights='model.safetensors'" in (caught.value.fix or "")
    (src / "model.safetensors").unlink()
    assert converters.open_checkpoint(src).files == ("best.safetensors",)
    assert loaded_by_transformers(src) == "model.safetensors"


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("consolidated.00.pth", "Meta"),
        ("adapter_model.safetensors", "merge_and_unload"),
        ("ggml-model-q4_0.bin", "llama.cpp"),
        ("gptq_model-4bit-128g.safetensors", "GPTQ"),
        ("flax_model.msgpack", "Flax"),
        ("mp_rank_00_model_states.pt", "zero_to_fp32"),
        ("__0_0.distcp", "distributed checkpoint"),
    ],
)
@pytest.mark.parametrize("configured", [True, False])
def test_weights_of_other_programs_alone_are_unsupported_by_name(tmp_path, zoo, name, word, configured):
    src = folder_with(tmp_path / "src", "model.safetensors")
    (src / "model.safetensors").rename(src / name)
    if not configured:
        (src / "config.json").unlink()
    for verb in (("convert", src, tmp_path / "dst", "--to", "llama"), ("inspect", src)):
        code, _, err = zoo(*verb)
        assert code == 7
        assert name in err
        assert word in err


def test_damage_to_the_set_that_is_read_names_the_other_one(tmp_path, zoo):
    """One shard of an earlier save under the name that transformers looks for first."""
    src = folder_with(tmp_path / "src", "model.safetensors.index.json")
    shutil.copy(src / "model-00001-of-00002.safetensors", src / "model.safetensors")
    code, _, err = zoo("convert", src, tmp_path / "dst", "--to", "llama")
    assert code == 6
    assert "is missing" in err
    assert "--weights model.safetensors.index.json" in err
    assert read_by_us(src, "model.safetensors.index.json") == "model.safetensors.index.json"


def test_a_converted_directory_is_verified_by_the_weights_that_were_written(tmp_path, zoo):
    """Files that loaders would take instead are wrong; the tensors that were written are right."""
    src = folder_with(tmp_path / "src", "pytorch_model.bin")
    dst = tmp_path / "dst"
    assert zoo("convert", src, dst, "--to", "llama", "--max-shard-size", "20KB")[0] == 0
    shutil.copy(src / "pytorch_model.bin", dst)
    save_file({"x": torch.ones(1)}, dst / "model.safetensors")
    report = internlm_zoo.verify(dst)
    assert sorted(file.path for file in report.wrong) == ["model.safetensors", "pytorch_model.bin"]
    assert all("was added" in file.what for file in report.wrong)
