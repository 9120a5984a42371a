"""What cannot be loaded is refused by name: tensor, shape, device, memory, text. No file's code is run."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest

from internlm_zoo.errors import IntegrityError, NotFoundError, UnsupportedError, UsageError, ZooError
from internlm_zoo.loading.answer import generate
from internlm_zoo.loading.generate import encode, encode_turns
from tests.loading.demo import MODELS, edit_config, home_of, load_model, plan_load, rewritten

BASE, CHAT = MODELS
DOWN = "model.layers.1.mlp.down_proj.weight"


def changed(directories, tmp_path, change):
    return rewritten(directories[BASE, "llama"], tmp_path / "changed", change)


def test_a_missing_tensor_is_named(directories, tmp_path):
    folder = changed(directories, tmp_path, lambda tensors: tensors.pop(DOWN))
    with pytest.raises(ZooError) as refused:
        load_model(folder, settings=home_of(tmp_path))
    assert DOWN in str(refused.value) and refused.value.exit_code == IntegrityError.exit_code


def test_a_tensor_nobody_knows_is_named(directories, tmp_path):
    folder = changed(directories, tmp_path, lambda tensors: tensors.update(extra=np.zeros(3, np.uint16)))
    with pytest.raises(UnsupportedError, match="extra"):
        load_model(folder, settings=home_of(tmp_path))


def test_a_tensor_of_another_shape_is_named_with_its_shape(directories, tmp_path):
    def cut(tensors):
        tensors[DOWN] = tensors[DOWN][:, :-1]

    folder = changed(directories, tmp_path, cut)
    with pytest.raises(IntegrityError) as refused:
        load_model(folder, settings=home_of(tmp_path))
    assert DOWN in str(refused.value) and "255" in str(refused.value)


@pytest.mark.parametrize(
    ("device", "error"),
    [("tpu", UsageError), ("", UsageError), ("meta", UsageError), ("cuda:93", UnsupportedError)],
)
def test_a_device_that_is_none_or_not_here_is_named(directories, tmp_path, device, error):
    with pytest.raises(error, match=f"device {device}|'{device}'"):
        load_model(directories[BASE, "hf"], settings=home_of(tmp_path), devices=["cpu", device])


def test_a_plan_may_be_made_for_devices_of_another_machine(directories, tmp_path):
    plan = plan_load(directories[BASE, "hf"], settings=home_of(tmp_path), devices=["cuda:93", "cuda:94"])
    assert [part.device.name for part in plan.placement.parts] == ["cuda:93", "cuda:94"]


def test_a_model_larger_than_the_free_memory_is_refused_from_its_headers_with_both_numbers(
    directories, tmp_path, monkeypatch
):
    """A machine with half a megabyte free: only the number that the system reports is replaced."""
    import psutil

    free = psutil.virtual_memory()._replace(available=500_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(UnsupportedError) as refused:
        load_model(directories[BASE, "hf"], settings=home_of(tmp_path), devices=["cpu"])
    assert "2.2 MB" in str(refused.value) and "500.0 kB" in str(refused.value)


def test_more_devices_than_layers_and_unknown_dtypes_and_placements_are_refused(directories, tmp_path):
    folder, settings = directories[BASE, "hf"], home_of(tmp_path)
    with pytest.raises(UsageError, match="5 devices for 4 layers"):
        plan_load(folder, settings=settings, devices=["cpu"] * 5)
    with pytest.raises(UsageError, match="float8"):
        plan_load(folder, settings=settings, dtype="float8")
    with pytest.raises(UnsupportedError, match="rows placement"):
        plan_load(folder, settings=settings, parallel="rows")


def test_neither_a_directory_nor_a_model_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match="demo-internlm-bse"):
        plan_load("demo-internlm-bse", settings=home_of(tmp_path))


WITHOUT_TORCH = {
    "load": [],
    "generate": ["-p", "x"],
    "score": ["-p", "x"],
    "smoke": [],
}


@pytest.mark.parametrize("command", WITHOUT_TORCH)
def test_without_torch_what_is_wrong_with_the_model_is_said_first(
    zoo, directories, tmp_path, monkeypatch, command
):
    """And torch before a model is fetched that nothing could load."""
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "empty").mkdir()

    def said(*words):
        code, out, _ = zoo(command, *words, *WITHOUT_TORCH[command], "--json")
        return code, "torch" in json.loads(out)["error"]["what"]

    assert said("demo-internlm-bse") == (4, False)
    assert said(directories[BASE, "hf"], "--as", "demo-internlm-bse") == (4, False)
    assert said(tmp_path / "empty") == (4, False)
    assert said(directories[BASE, "hf"]) == (7, True)
    assert said("internlm2-7b") == (7, True)


def test_without_torch_a_miniature_names_a_missing_model_first(zoo, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, err = zoo("smoke", "--miniature", "internlm2-bse")
    assert code == 4 and "torch" not in err


@pytest.mark.parametrize(
    "words", [("smoke",), ("smoke", "x", "--all"), ("smoke", "--all", "--as", "x"), ("score", "x")]
)
def test_what_is_asked_of_nothing_says_what_to_write(zoo, words):
    code, out, _ = zoo(*words, "--json")
    assert code == 2 and json.loads(out)["error"]["fix"]


def test_half_a_character_is_refused_as_a_prompt(directories, tmp_path):
    loaded = load_model(directories[CHAT, "hf"], settings=home_of(tmp_path), known_as=CHAT)
    for write in (
        lambda: generate(loaded, "a \ud83d b"),
        lambda: generate(loaded, "a \ud83d b", raw=True),
        lambda: encode(loaded, "\udcff"),
    ):
        with pytest.raises(UsageError, match="surrogate"):
            write()


def test_a_chat_template_that_refuses_a_role_says_so(directories, tmp_path):
    loaded = load_model(directories[BASE, "hf"], settings=home_of(tmp_path), known_as=BASE)
    with pytest.raises(UnsupportedError, match="roles system, user and assistant"):
        encode_turns(loaded, [{"role": "critic", "content": "x"}])


def test_a_rope_scaling_that_transformers_does_not_know_is_named(directories, tmp_path):
    folder = changed(directories, tmp_path, lambda tensors: None)
    edit_config(folder, rope_scaling={"rope_type": "spiral"})
    with pytest.raises(UnsupportedError, match="spiral"):
        load_model(folder, settings=home_of(tmp_path))


@pytest.mark.parametrize("form", ["hf", "llama"])
def test_no_code_that_came_with_a_directory_is_run_or_fetched(directories, tmp_path, form):
    folder, marker = tmp_path / "hostile", tmp_path / "marker"
    folder.mkdir()
    for file in (path for path in directories[BASE, form].iterdir() if path.is_file()):
        (folder / file.name).write_bytes(file.read_bytes())
    trap = f"open({str(marker)!r}, 'w').close()\n"
    for module in (
        "modeling_internlm",
        "configuration_internlm",
        "tokenization_internlm",
        "torch",
        "__init__",
    ):
        (folder / f"{module}.py").write_text(trap)
    edit_config(
        folder,
        auto_map={
            "AutoConfig": "configuration_internlm.InternLMConfig",
            "AutoModelForCausalLM": "modeling_internlm.InternLMForCausalLM",
        },
        attn_implementation="somebody/some-kernels",
        quantization_config={"quant_method": "custom"},
        trust_remote_code=True,
    )
    tokenizer = folder / "tokenizer_config.json"
    tokenizer.write_text(
        json.dumps(
            json.loads(tokenizer.read_text())
            | {
                "auto_map": {"AutoTokenizer": ["tokenization_internlm.Tokenizer", None]},
                "tokenizer_class": "Tokenizer",
            }
        )
    )
    loaded = load_model(folder, settings=home_of(tmp_path), known_as=BASE)
    plain = load_model(directories[BASE, form], settings=home_of(tmp_path), known_as=BASE)
    assert generate(loaded, "A stitch") == generate(plain, "A stitch")
    assert not marker.exists()
    assert type(loaded.model).__module__ == "transformers.models.llama.modeling_llama"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"\xff"),
        ("tokenizer.json", b'{"version": "1.0", "added_tokens": [], "model": {"type": "XPE"}}'),
        ("tokenizer_config.json", b"[]"),
        ("tokenizer_config.json", b'{"bos_token": 3}'),
    ],
)
def test_a_damaged_tokenizer_is_a_refusal_that_names_the_file_or_the_directory(
    directories, tmp_path, name, content
):
    folder = tmp_path / "damaged"
    shutil.copytree(directories[CHAT, "llama"], folder)
    (folder / name).write_bytes(content)
    with pytest.raises(IntegrityError) as refused:
        load_model(folder, settings=home_of(tmp_path), known_as=CHAT)
    assert refused.value.where in (str(folder), str(folder / name))


def test_a_llama_config_without_architectures_is_that_of_a_language_model(zoo, directories, tmp_path):
    """LlamaForCausalLM.from_pretrained opens it too."""
    source = tmp_path / "bare"
    shutil.copytree(directories[MODELS[0], "llama"], source)
    config = json.loads((source / "config.json").read_text())
    del config["architectures"]
    (source / "config.json").write_text(json.dumps(config))
    code, out, err = zoo("generate", source, "-p", "A stitch in time", "--max-new-tokens", 3)
    assert code == 0, err
    assert out.strip()
