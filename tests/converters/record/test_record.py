"""conversion.json: what it says, and `verify` holding a converted directory against it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from blake3 import blake3
from safetensors.torch import load_file, save_file

import converters
from converters.formats.folder import LocalFolder
from tests.converters.oracle import INTERNLM2, make_model, write_hf, write_original

CHAT = "demo-internlm2-chat"


@pytest.fixture
def src(tmp_path):
    return write_original(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, 2)


@pytest.fixture
def dst(tmp_path, src):
    converters.convert(src, tmp_path / "dst", to="hf", max_shard_size="200KB")
    return tmp_path / "dst"


def record_of(folder):
    return json.loads((folder / "conversion.json").read_text())


def test_it_names_inputs_options_layouts_facts_and_fingerprints(tmp_path, src, dst):
    record = record_of(dst)
    for file in record["source"]["files"]:
        data = (src / file["name"]).read_bytes()
        assert (file["size"], file["blake3"]) == (len(data), blake3(data).hexdigest())
    assert {file["name"] for file in record["source"]["files"]} == {p.name for p in src.glob("model_tp*.pt")}
    assert record["options"] == {
        "to": "hf",
        "tp": 1,
        "pp": 1,
        "max_shard_size": "200KB",
        "dtype": "keep",
        "accept_lossy": False,
        "pad_vocab_to_multiple": 1,
        "weights": None,
        "given": {},
        "no_tokenizer": False,
    }
    assert (record["source"]["layout"], record["source"]["tp"]) == ("internlm2/original", 2)
    assert record["target"]["layout"] == "internlm2/hf"
    assert record["facts"]["hidden_size"] == {"value": INTERNLM2.hidden, "origin": "model_config.pt"}
    assert record["fingerprint"]["tensors"] == converters.fingerprint(src)
    listed = [*record["target"]["files"], *record["target"]["other_files"]]
    assert {file["name"] for file in listed} | {"conversion.json"} == {path.name for path in dst.iterdir()}


def test_it_is_the_same_from_run_to_run_and_names_no_path(tmp_path, src, dst):
    converters.convert(src, tmp_path / "again", to="hf", max_shard_size="200KB", workers=1)
    text = (dst / "conversion.json").read_text()
    assert (tmp_path / "again/conversion.json").read_text() == text
    assert str(tmp_path) not in text


def test_who_opens_what_was_converted_reads_it_once(dst, monkeypatch):
    opened, own = [], LocalFolder.open
    monkeypatch.setattr(LocalFolder, "open", lambda self, name: opened.append(name) or own(self, name))
    assert converters.open_checkpoint(dst).origin
    assert opened.count("conversion.json") == opened.count("config.json")


def test_digests_that_are_known_are_taken_over_unread(tmp_path, src):
    """A digest that is not the file's shows that the file was not hashed."""
    known = {path.name: "ab" * 32 for path in src.glob("model_tp0*.pt")}
    converters.convert(LocalFolder(src, lambda: known), tmp_path / "dst", to="hf")
    first, second = record_of(tmp_path / "dst")["source"]["files"]
    assert first["sha256"] == "ab" * 32
    assert first["verified"] == "before, by the download"
    assert "blake3" not in first
    assert second["blake3"] == blake3((src / second["name"]).read_bytes()).hexdigest()


def verify(zoo, folder, *options):
    code, out, _ = zoo("verify", folder, "--json", *options)
    return code, json.loads(out)["folders"][0] if code in (0, 1) else json.loads(out)


def test_a_converted_directory_is_verified(zoo, dst):
    code, found = verify(zoo, dst)
    assert (code, found["ok"]) == (0, True)
    assert found["checked"] == len(list(dst.iterdir())) - 1
    assert found["size"] == sum(p.stat().st_size for p in dst.iterdir() if p.name != "conversion.json")


@pytest.mark.parametrize("to", ["original", "llama"])
def test_so_is_one_of_every_other_format(zoo, tmp_path, src, to):
    converters.convert(src, tmp_path / "dst", to=to, **({"tp": 4, "pp": 2} if to == "original" else {}))
    assert verify(zoo, tmp_path / "dst")[0] == 0


def test_a_changed_weight_is_named_with_its_file(zoo, dst):
    index = json.loads((dst / "model.safetensors.index.json").read_text())["weight_map"]
    name = "model.layers.1.feed_forward.w2.weight"
    shard = dst / index[name]
    state = load_file(shard)
    state[name][3, 5] += 1
    save_file(state, shard, metadata={"format": "pt"})
    code, found = verify(zoo, dst)
    assert code == 1
    assert found["wrong"] == [
        {"path": index[name], "what": "layers.1.mlp.down.weight is not what the conversion wrote"}
    ]
    assert verify(zoo, dst, "--quick")[0] == 0


def test_a_changed_rank_of_an_original_grid_is_named(zoo, tmp_path, src):
    converters.convert(src, tmp_path / "dst", to="original", tp=4)
    path = tmp_path / "dst/model_tp2_pp0.pt"
    state = torch.load(path, weights_only=True)
    state["layers.0.attention.wo.weight"].neg_()
    torch.save(state, path)
    code, found = verify(zoo, tmp_path / "dst")
    assert code == 1
    assert "model_tp2_pp0.pt" in found["wrong"][0]["path"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_a_changed_config_or_index_is_named(zoo, dst, name):
    content = (dst / name).read_bytes()
    (dst / name).write_bytes(content.replace(b"1", b"2", 1))
    code, found = verify(zoo, dst)
    assert code == 1
    assert [file["path"] for file in found["wrong"]] == [name]
    assert "blake3" in found["wrong"][0]["what"]


def test_missing_extra_and_truncated_files_are_named(zoo, dst):
    (dst / "config.json").unlink()
    (dst / "notes.txt").write_text("mine")
    shard = sorted(dst.glob("*.safetensors"))[0]
    os.truncate(shard, shard.stat().st_size - 1)
    code, found = verify(zoo, dst, "--quick")
    assert code == 1
    assert found["missing"] == ["config.json"]
    assert (found["extra"], found["added"]) == ([], ["notes.txt"])
    assert [file["path"] for file in found["wrong"]] == [shard.name]


def test_a_changed_tokenizer_hides_no_changed_weight(zoo, tmp_path, src):
    (src / "tokenizer.json").write_text("{}")
    converters.convert(src, tmp_path / "dst", to="original", tp=2)
    dst = tmp_path / "dst"
    assert verify(zoo, dst)[0] == 0
    (dst / "tokenizer.json").write_text("[]")
    change(dst / "model_tp1_pp0.pt", "layers.0.attention.wo.weight")
    code, found = verify(zoo, dst)
    assert code == 1
    first, second = found["wrong"]
    assert (first["path"], "blake3" in first["what"]) == ("tokenizer.json", True)
    assert "model_tp1_pp0.pt" in second["path"]
    assert "layers.0.attention.o.weight" in second["what"]


def change(path, name):
    """The same file but for the values of one tensor."""
    before = torch.load(path, weights_only=True)[name]
    data, bits = path.read_bytes(), before.contiguous().view(torch.uint8).numpy().tobytes()
    at = data.index(bits)
    path.write_bytes(data[:at] + bytes(byte ^ 0xFF for byte in bits) + data[at + len(bits) :])


def test_a_rank_whose_copy_of_a_norm_differs_is_a_difference(zoo, tmp_path, src):
    converters.convert(src, tmp_path / "dst", to="original", tp=2)
    change(tmp_path / "dst/model_tp1_pp0.pt", "layers.1.ffn_norm.weight")
    code, found = verify(zoo, tmp_path / "dst")
    assert code == 1
    (wrong,) = found["wrong"]
    assert wrong["path"] == "model_tp1_pp0.pt"
    assert "layers.1.ffn_norm.weight" in wrong["what"]


def test_a_weight_file_that_cannot_be_read_is_a_difference(zoo, dst):
    shard = sorted(dst.glob("*.safetensors"))[0]
    data = bytearray(shard.read_bytes())
    data[0] ^= 1
    shard.write_bytes(data)
    code, found = verify(zoo, dst)
    assert code == 1
    assert [file["path"] for file in found["wrong"]] == [shard.name]


def test_extra_files_in_folders_and_links_to_nowhere_are_named(zoo, dst):
    (dst / "more").mkdir()
    (dst / "more/weights.bin").write_bytes(b"x")
    (dst / "config.json").unlink()
    (dst / "config.json").symlink_to("nowhere")
    code, found = verify(zoo, dst)
    assert code == 1
    assert (found["missing"], found["added"]) == (["config.json"], ["more/weights.bin"])


def test_without_evidence_there_is_nothing_to_hold_tensors_against(zoo, tmp_path, src):
    converters.convert(src, tmp_path / "dst", to="hf", evidence=False)
    code, found = verify(zoo, tmp_path / "dst")
    assert code == 4
    assert "--no-evidence" in json.dumps(found)
    assert verify(zoo, tmp_path / "dst", "--quick")[0] == 0
    assert [file["blake3"] for file in record_of(tmp_path / "dst")["source"]["files"]] == [None, None]


def test_without_evidence_what_there_is_is_checked_all_the_same(zoo, tmp_path, src):
    """Configs by their digests, files of the original format by their own CRCs."""
    converters.convert(src, tmp_path / "dst", to="original", tp=2, evidence=False)
    assert verify(zoo, tmp_path / "dst")[0] == 4
    change(tmp_path / "dst/model_tp1_pp0.pt", "layers.0.attention.wo.weight")
    code, found = verify(zoo, tmp_path / "dst")
    assert code == 1
    (wrong,) = found["wrong"]
    assert wrong["path"] == "model_tp1_pp0.pt"
    assert "CRC" in wrong["what"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"target": {"files": [{"name": 1, "size": 2}]}, "fingerprint": {"tensors": {}}}',
        '{"target": {"files": [{"name": "a", "size": Infinity}]}, "fingerprint": {"tensors": {}}}',
        '{"target": {"files": [{"name": "../a", "size": 2}]}, "fingerprint": {"tensors": {}}}',
        '{"target": {"files": [{"name": "a\\ud800", "size": 2}]}, "fingerprint": {"tensors": {}}}',
        '{"target": {"files": [{"name": "\\u001b[2J", "size": 2}]}, "fingerprint": {"tensors": {}}}',
        '{"target": {"files": []}, "fingerprint": {"tensors": []}}',
        "[" * 99999,
    ],
)
def test_a_damaged_record_is_a_refusal(zoo, dst, content):
    (dst / "conversion.json").write_text(content)
    code, _ = verify(zoo, dst)
    assert code == 6


def test_a_release_of_the_store_is_not_hashed_again(zoo, tmp_path):
    """Its digests come from the record of the download, until somebody writes to a file."""
    code, out, _ = zoo("download", CHAT, "--local-dir", tmp_path / "got")
    assert code == 0
    code, _, _ = zoo("convert", tmp_path / "got", tmp_path / "dst", "--to", "hf")
    assert code == 0
    (file,) = record_of(tmp_path / "dst")["source"]["files"]
    assert file["sha256"] == hashlib.sha256((tmp_path / "got" / file["name"]).read_bytes()).hexdigest()
    weights = tmp_path / "got" / file["name"]
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content)
    code, _, _ = zoo("convert", tmp_path / "got", tmp_path / "again", "--to", "hf")
    assert code == 0
    (file,) = record_of(tmp_path / "again")["source"]["files"]
    assert "sha256" not in file
    assert file["blake3"] == blake3(content).hexdigest()
    assert out


@pytest.mark.parametrize("place", ["folder", "store"])
def test_a_later_download_vouches_for_no_file_that_it_did_not_bring(zoo, tmp_path, place):
    """The weights are written to between two downloads into the same folder; size and age stay plausible."""
    options = ["--local-dir", tmp_path / "got"] if place == "folder" else []
    code, out, _ = zoo("download", CHAT, *options, "--include", "model_*")
    got = Path(out.strip())
    assert code == 0
    weights = got / "model_tp0_pp0.pt"
    before = weights.stat()
    weights.resolve().chmod(0o644)
    change(weights.resolve(), "layers.0.attention.wo.weight")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns - 10**9))
    assert zoo("download", CHAT, *options, "--include", "tokenizer.model")[0] == 0
    assert zoo("convert", got, tmp_path / "dst", "--to", "hf")[0] == 0
    (file,) = record_of(tmp_path / "dst")["source"]["files"]
    assert "sha256" not in file
    assert file["blake3"] == blake3(weights.read_bytes()).hexdigest()


def test_hf_sources_too(tmp_path):
    src = write_hf(tmp_path / "src", make_model(INTERNLM2), INTERNLM2, files=3)
    converters.convert(src, tmp_path / "dst", to="original", tp=2)
    assert len(record_of(tmp_path / "dst")["source"]["files"]) == 3
