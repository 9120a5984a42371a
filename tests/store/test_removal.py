"""`cache rm` and `cache prune`: what goes is gone, what something else needs stays, and stays right."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

import internlm_zoo.cli.cache
import internlm_zoo.cli.download
from internlm_zoo.cli.shell import run
from internlm_zoo.fs.ownership import Owner
from internlm_zoo.store.publish import publish_release
from tests.world import FILES, ORIGINAL_FILES, World, content_below


@pytest.fixture
def zoo(world: World, monkeypatch, capsys):
    assert internlm_zoo.cli.cache and internlm_zoo.cli.download
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)

    def call(*args):
        capsys.readouterr()
        code = run([*map(str, args), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return call


def blobs(world: World):
    return {path.name for path in world.home.glob("blobs/sha256/*/*")}


def noted(world: World) -> int:
    """Bytes of the notes on what came for files without a listed sha256, which go with it."""
    return sum(path.stat().st_size for path in world.home.glob("git/*/*"))


def test_a_release_goes_with_the_blobs_that_only_it_has(zoo, world: World):
    zoo("download", "tiny", "--format", "original")
    before = blobs(world)
    zoo("download", "tiny", "--format", "hf")
    hf = next(path for path in world.home.glob("releases/huggingface/*/*"))
    revision, notes = hf.name, noted(world)
    code, told = zoo("cache", "rm", "tiny", "--revision", revision)
    assert (code, told["releases"]) == (0, [str(hf)])
    only_hf = set(FILES.values()) - set(ORIGINAL_FILES.values())
    assert told["bytes"] == sum(map(len, only_hf)) + notes - noted(world)
    assert blobs(world) == before
    assert not hf.exists()
    code, found = zoo("verify", "tiny")
    assert (code, found["ok"]) == (0, True)


def test_all_releases_of_a_model_go_and_can_come_again(zoo, world: World):
    zoo("download", "tiny")
    assert zoo("cache", "rm", "tiny")[0] == 0
    assert blobs(world) == set()
    assert list(world.home.glob("releases/*")) == []
    code, told = zoo("download", "tiny")
    assert code == 0
    assert content_below(Path(told["path"])) == FILES


def test_a_dry_run_says_what_would_go_and_removes_nothing(zoo, world: World):
    zoo("download", "tiny")
    before = blobs(world)
    code, told = zoo("cache", "rm", "tiny", "--dry-run")
    assert (code, told["dry_run"]) == (0, True)
    assert told["bytes"] == sum(map(len, set(FILES.values()))) + noted(world)
    assert blobs(world) == before
    assert zoo("verify", "tiny")[0] == 0


def test_what_is_not_in_the_store_is_not_found(zoo, world: World):
    assert zoo("cache", "rm", "tiny")[0] == 4
    zoo("download", "tiny")
    assert zoo("cache", "rm", "tiny", "--revision", "0000")[0] == 4


def test_prune_takes_what_no_release_needs_and_nothing_else(zoo, world: World):
    zoo("download", "tiny")
    before = blobs(world)
    stray = world.home / "blobs/sha256/ab" / ("ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(bytes(100))
    left = world.home / "partial" / "cafe.free-0.part"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(bytes(50))
    left.with_suffix(".journal").write_text("{}")
    code, told = zoo("cache", "prune", "--dry-run")
    assert (code, told["bytes"]) == (0, 152)
    assert stray.exists()
    code, told = zoo("cache", "prune")
    assert (code, told["bytes"]) == (0, 152)
    assert blobs(world) == before
    assert list((world.home / "partial").glob("*.part")) == []
    assert zoo("cache", "prune")[1]["bytes"] == 0


def test_prune_does_not_disturb_a_download_under_way(zoo, world: World):
    with Owner(world.home / "partial") as owner:  # this process, which lives
        part = owner.name("cafe")
        part.write_bytes(b"on its way")
        code, told = zoo("cache", "prune")
    assert (code, part.exists()) == (2, True)
    assert "under way: `" in told["error"]["what"]
    assert f"(process {os.getpid()} on {socket.gethostname()}, since 20" in told["error"]["what"]
    assert zoo("cache", "prune")[0] == 0 and not part.exists()


def test_a_blob_that_was_removed_before_its_release_was_shown_is_a_refusal(zoo, world: World, monkeypatch):
    """Whoever removes files by hand while a download runs: nothing half is shown."""
    import internlm_zoo.downloads.targets as targets

    def late(store, folder, record, stale):
        for blob in world.home.glob("blobs/sha256/*/*"):
            os.chmod(blob, 0o600)
            blob.unlink()
        publish_release(store, folder, record, stale)

    monkeypatch.setattr(targets, "publish_release", late)
    code, told = zoo("download", "tiny", "--source", "huggingface")
    assert code == 4
    assert "run it again" in told["error"]["fix"]
    assert world.published() == []
