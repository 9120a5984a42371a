"""What public sources quote of a file is a second witness for `lock` and `verify`, and never the truth."""

from __future__ import annotations

import hashlib
import json

import pytest

import internlm_zoo.cli.download  # registering the command
from internlm_zoo.files import Digests, File
from internlm_zoo.registry.lock import read
from internlm_zoo.registry.quoted import quoted_facts
from internlm_zoo.registry.release import QuotedFile
from tests.sources.test_lock import FILES, HF, OVERLAY, hub, lock_file  # noqa: F401 - fixtures

assert internlm_zoo.cli.download
WEIGHTS = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
CONFIG = hashlib.sha1(b"blob 2\0{}").hexdigest()
QUOTES = """{
          model.safetensors: {sha256: %s, bytes: 1000, source: a catalogue},
          config.json: {git_sha1: %s, source: a catalogue},
          tokenizer.model: {sha256: %s, source: somebody},
          gone.json: {bytes: 7, source: somebody}}"""


@pytest.fixture
def quoted(hub, tmp_path):  # noqa: F811
    known = QUOTES % (WEIGHTS, CONFIG, "ab" * 32)
    listed = "also_listed_as: [demo/tiny]"
    assert listed in OVERLAY
    (tmp_path / "overlay.yaml").write_text(OVERLAY.replace(listed, f"{listed}, quoted_files: {known}"))
    return hub


def told(err: str) -> str:
    return " ".join(err.split())


def test_lock_tells_who_agrees_and_who_contradicts_and_records_what_the_hub_says(
    zoo,
    quoted,
    lock_file,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    monkeypatch.setenv("INTERNLM_ZOO_HOME", str(tmp_path / "store"))
    import internlm_zoo.cli.lock

    assert internlm_zoo.cli.lock
    code, _, err = zoo("lock", "tiny")
    said = told(err)
    assert code == 0, "a quotation decides nothing"
    assert "agrees with what a catalogue quoted: config.json (git_sha1), model.safetensors (sha256)" in said
    tokenizer = hashlib.sha256(FILES["tokenizer.model"]).hexdigest()
    found = f"its sha256 is {tokenizer}, quoted was {'ab' * 32}"
    assert f"tokenizer.model contradicts what somebody quoted: {found}" in said
    assert "gone.json" not in said
    recorded = read(lock_file).find("huggingface", HF)
    assert recorded is not None and recorded.file("tokenizer.model").sha256 in (tokenizer, None)

    code, out, _ = zoo("lock", "tiny", "--json")
    (release,) = [one for one in json.loads(out)["releases"] if one["hub"] == "huggingface"]
    agrees = {one["path"]: one["agrees"] for one in release["quoted"]}
    assert code == 0 and agrees == {"config.json": True, "model.safetensors": True, "tokenizer.model": False}


def test_verify_tells_it_of_the_files_that_are_right(zoo, quoted, tmp_path, monkeypatch):
    monkeypatch.setenv("INTERNLM_ZOO_HOME", str(tmp_path / "store"))
    code, _, err = zoo("download", "tiny", "--source", "huggingface")
    assert code == 0, err
    code, _, err = zoo("verify", "tiny")
    said = told(err)
    assert code == 0, "a quotation that differs makes no file wrong"
    assert "agrees with what a catalogue quoted" in said and "model.safetensors (sha256)" in said
    assert "tokenizer.model contradicts what somebody quoted" in said
    assert "quoted" not in told(zoo("verify", "tiny", "--quick")[2]), "sizes alone were compared"
    weights = next((tmp_path / "store").glob("releases/**/model.safetensors"))
    weights.resolve().chmod(0o600)
    weights.resolve().write_bytes(bytes(999) + b"1")
    code, _, err = zoo("verify", "tiny")
    assert code == 1 and "model.safetensors (sha256)" not in told(err), "a wrong file is nobody's witness"


def test_a_size_alone_is_held_against_the_size_and_no_fact_in_common_says_nothing():
    file = File("w.bin", 10, Digests(git_sha1="1" * 40))
    (agreed,) = quoted_facts({"w.bin": QuotedFile(bytes=10, source="s")}, [file])
    assert (agreed.agrees, agreed.field) == (True, "size")
    (wrong,) = quoted_facts({"w.bin": QuotedFile(bytes=11, sha256="0" * 64, source="s")}, [file])
    assert (wrong.agrees, wrong.quoted, wrong.found) == (False, "11", "10")
    assert quoted_facts({"w.bin": QuotedFile(sha256="0" * 64, source="s")}, [file]) == ()
