"""`verify` of a converted directory: what was added is a fault only if it changes what is loaded."""

from __future__ import annotations

import json
import shutil

import pytest

import converters
from tests.converters.oracle import INTERNLM2, make_model, write_hf

HARMLESS = {
    "notes.txt": b"mine",
    "modeling_internlm2.py": b"raise SystemExit",
    "more/model.safetensors": b"not in the directory itself",
    "training_args.bin": b"x",
    "optimizer.pt": b"x",
    "picture.png": b"x",
}
INTRUDERS = [
    "model.safetensors",
    "model-00009-of-00009.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "consolidated.00.pth",
    "model_tp0_pp0.pt",
    "model_config.pt",
    "tokenizer.json",
    "added_tokens.json",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("added")
    src = write_hf(folder / "src", make_model(INTERNLM2), INTERNLM2)
    converters.convert(src, folder / "dst", to="llama", max_shard_size="200KB")
    return folder / "dst"


@pytest.fixture
def dst(tmp_path, made):
    return shutil.copytree(made, tmp_path / "dst")


def put(folder, name, content=b"{}"):
    assert not (folder / name).exists()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)


@pytest.mark.parametrize("how", [[], ["--quick"]], ids=["whole", "quick"])
def test_what_changes_nothing_is_named_and_is_no_fault(zoo, dst, how):
    for name, content in HARMLESS.items():
        put(dst, name, content)
    code, out, _ = zoo("verify", dst, "--json", *how)
    (found,) = json.loads(out)["folders"]
    assert (code, found["ok"], found["added"]) == (0, True, sorted(HARMLESS))
    code, out, _ = zoo("verify", dst, *how)
    assert code == 0 and "added since, and not part of it: " in out and "notes.txt" in out


@pytest.mark.parametrize("name", INTRUDERS)
def test_what_changes_what_is_loaded_is_wrong_by_name(zoo, dst, name):
    put(dst, name)
    put(dst, "notes.txt")
    code, out, _ = zoo("verify", dst, "--json")
    (found,) = json.loads(out)["folders"]
    assert (code, found["ok"], found["added"]) == (1, False, ["notes.txt"])
    (wrong,) = (file for file in found["wrong"] if file["path"] == name)
    assert "was added" in wrong["what"]


def test_a_changed_weight_beside_an_added_file_is_still_wrong(zoo, dst):
    put(dst, "notes.txt")
    shard = sorted(dst.glob("*.safetensors"))[0]
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    code, out, _ = zoo("verify", dst, "--json")
    (found,) = json.loads(out)["folders"]
    assert (code, found["added"]) == (1, ["notes.txt"])
    assert [file["path"] for file in found["wrong"]] == [shard.name]
    code, out, _ = zoo("verify", dst)
    assert code == 1 and "added" in out


def test_what_a_system_or_a_tool_left_is_not_even_named(zoo, dst):
    """A Mac writes such a shadow beside every file on a disk that is not its own."""
    for name in ("._model.safetensors", "._config.json", ".DS_Store", "desktop.ini", ".git/config"):
        put(dst, name, b"Mac OS X")
    code, out, _ = zoo("verify", dst)
    assert code == 0 and "added" not in out
    assert "._" not in zoo("inspect", dst, "--json")[1]
