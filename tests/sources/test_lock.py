"""`internlm-zoo lock` against loopback hubs, through the command line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import internlm_zoo.cli.catalogue
import internlm_zoo.cli.lock  # noqa: F401 - importing registers the commands
from internlm_zoo.cli.shell import run
from internlm_zoo.registry.lock import read, record_in
from tests.hubs import FaultyHub
from tests.sources.contract import write_files

HF, ORIGINAL = "demo/tiny", "demo/tiny-original"
FILES = {"config.json": b"{}", "model.safetensors": bytes(1000), "tokenizer.model": b"tok"}
OVERLAY = """
hubs:
  elsewhere: {title: Elsewhere}  # listed only: nothing here speaks its protocol
models:
  tiny:
    display_name: Tiny
    family: internlm
    size: 1m
    kind: base
    releases:
      - {hub: huggingface, repo: demo/old-name, format: hf, also_listed_as: [demo/tiny]}
      - {hub: modelscope, repo: demo/tiny, format: hf}
      - {hub: modelers, repo: demo/tiny, format: hf}
      - {hub: openxlab, repo: demo/tiny-original, format: original}
      - {hub: elsewhere, repo: demo/tiny, format: hf}
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyHub]:
    write_files(tmp_path / "hub" / HF, FILES)
    write_files(tmp_path / "hub" / ORIGINAL, {"model_tp0_pp0.pt": bytes(64)})
    (tmp_path / "overlay.yaml").write_text(OVERLAY)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("INTERNLM_ZOO_HOME", str(tmp_path / "store"))
    monkeypatch.setenv("INTERNLM_ZOO_REGISTRY", str(tmp_path / "overlay.yaml"))
    with FaultyHub(tmp_path / "hub") as hub:
        for name, value in hub.env.items():
            monkeypatch.setenv(name, value)
        yield hub


@pytest.fixture
def lock_file(tmp_path: Path) -> Path:
    return tmp_path / "store" / "registry.lock"


def lock(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, Any]:
    code = run(["lock", "tiny", "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def states(answer: Any) -> dict[str, str]:
    return {release["hub"]: release["state"] for release in answer["releases"]}


def test_every_reachable_release_is_recorded(
    hub: FaultyHub, lock_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = lock(capsys)
    assert code == 0
    assert states(answer) == dict.fromkeys(("huggingface", "modelscope", "modelers", "openxlab"), "new")
    recorded = {(release.hub, release.repo): release for release in read(lock_file).releases}
    assert set(recorded) == {
        ("huggingface", HF),
        ("modelscope", HF),
        ("modelers", HF),
        ("openxlab", ORIGINAL),
    }
    assert recorded["modelers", HF].revision == recorded["huggingface", HF].revision  # the same commit here
    assert recorded["modelers", HF].files == recorded["huggingface", HF].files
    for file in recorded["modelscope", HF].files:
        assert (file.size, file.sha256) == (
            len(FILES[file.path]),
            hashlib.sha256(FILES[file.path]).hexdigest(),
        )


def test_no_digest_is_made_up(hub: FaultyHub, lock_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock(capsys)
    config = read(lock_file).find("huggingface", HF).file("config.json")
    assert config.sha256 is None and config.git_sha1 == hashlib.sha1(b"blob 2\0{}").hexdigest()
    original = read(lock_file).find("openxlab", ORIGINAL)
    assert original.trust == "first-use"
    assert [(file.size, file.sha256) for file in original.files] == [(None, None)]


def test_what_a_download_found_out_is_kept_while_the_bytes_are_the_same(
    hub: FaultyHub, lock_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    from internlm_zoo.files import Digests

    lock(capsys)
    before = read(lock_file).find("openxlab", ORIGINAL)
    assert before is not None
    seen = replace(before.files[0], size=64, digests=Digests("1" * 64))
    record_in(lock_file, replace(before, files=(seen,)))
    lock(capsys)
    assert read(lock_file).find("openxlab", ORIGINAL).files == (seen,)
    (tmp_path / "hub" / ORIGINAL / "model_tp0_pp0.pt").write_bytes(b"another")
    lock(capsys)
    assert read(lock_file).find("openxlab", ORIGINAL).files[0].sha256 is None


def test_locking_twice_changes_nothing(
    hub: FaultyHub, lock_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock(capsys)
    first = lock_file.read_bytes()
    code, answer = lock(capsys)
    assert code == 0 and set(states(answer).values()) == {"same"}
    assert lock_file.read_bytes() == first
    assert lock(capsys, "--check")[0] == 0


def test_check_finds_drift_and_writes_nothing(
    hub: FaultyHub, lock_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock(capsys)
    before = lock_file.read_bytes()
    write_files(tmp_path / "hub" / HF, {"tokenizer.model": b"TOK", "extra.txt": b"new"})
    (tmp_path / "hub" / HF / "config.json").unlink()
    code, answer = lock(capsys, "--check")
    assert code == 1
    assert states(answer) == {
        "huggingface": "changed",
        "modelscope": "changed",
        "modelers": "changed",
        "openxlab": "same",
    }
    changes = next(release for release in answer["releases"] if release["hub"] == "modelscope")["changes"]
    assert [(change["path"], change["kind"]) for change in changes] == [
        (None, "changed"),
        ("config.json", "removed"),
        ("extra.txt", "added"),
        ("tokenizer.model", "changed"),
    ]
    assert lock_file.read_bytes() == before


def test_the_table_names_what_changed(
    hub: FaultyHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock(capsys)
    write_files(tmp_path / "hub" / HF, {"tokenizer.model": b"TOK"})
    assert run(["lock", "tiny", "--check"]) == 1
    table = capsys.readouterr().out
    assert "tokenizer.model" in table and hashlib.sha256(b"TOK").hexdigest() in table


def test_what_was_never_locked_does_not_pass_the_check(
    hub: FaultyHub, lock_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lock(capsys, "--check")[0] == 1
    assert not lock_file.exists()


def test_a_hub_that_cannot_be_reached_leaves_the_others_locked(
    hub: FaultyHub, lock_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert run(["lock", "tiny"]) == 3
    assert "huggingface at 127.0.0.1:9 does not answer" in capsys.readouterr().err
    assert {release.hub for release in read(lock_file).releases} == {"modelscope", "modelers", "openxlab"}


def test_without_any_hub_nothing_is_done(
    hub: FaultyHub, lock_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = lock(capsys, "--offline")
    assert code == 5 and set(states(answer).values()) == {"unreachable"}
    assert hub.requests == [] and not lock_file.exists()


def test_a_lock_file_of_ones_own(
    hub: FaultyHub, lock_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.lock"
    assert lock(capsys, "--file", str(mine))[0] == 0
    assert len(read(mine).releases) == 4 and not lock_file.exists()
    assert lock(capsys, "--check", "--file", str(mine))[0] == 0
