"""A damaged file of our own bookkeeping costs what it is about, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

import internlm_zoo.cli.cache
from internlm_zoo.transfer.blocks import BLOCK
from tests.environment.places import run_in
from tests.environment.table import ENVIRONMENTS
from tests.world import FILES, REPO, WEIGHTS, World, content_below, open_world

RECORD = ".internlm-zoo/release.json"


def newer(record: Path) -> None:
    record.write_text(json.dumps({**json.loads(record.read_text()), "schema": 2}))


def newer_release(record: Path) -> None:
    told = json.loads(record.read_text())
    told["release"]["provenance"] = {"signed": True}
    record.write_text(json.dumps(told))


def a_directory(record: Path) -> None:
    record.unlink()
    record.mkdir()


DAMAGED: dict[str, Callable[[Path], object]] = {
    "empty": lambda record: record.write_bytes(b""),
    "truncated": lambda record: record.write_bytes(record.read_bytes()[:-40]),
    "of wrong types": lambda record: record.write_text('{"model": 1, "release": [], "total": "x"}'),
    "not UTF-8": lambda record: record.write_bytes(b'{"model": "\xff\xfe"}'),
    "a list": lambda record: record.write_text("[]"),
    "gone": lambda record: record.unlink(),
    "a directory": a_directory,
}
NEWER = {"of a higher version": newer, "with fields of later versions": newer_release}


@pytest.fixture
def two(world: World, zoo, monkeypatch) -> tuple[World, Path, Path, Callable]:
    """Two releases of a model that share a file, and the command line: the second is to be spoilt."""
    assert internlm_zoo.cli.cache
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    good = world.download(source="openxlab", format="original").path
    bad = world.download(source="huggingface").path
    return world, good, bad, zoo


def test_the_others_are_listed_verified_removed_and_pruned(two) -> None:
    """For each kind of damage, one after another, on one store."""
    world, good, bad, zoo = two
    whole = (bad / RECORD).read_bytes()
    for kind, spoil in {**DAMAGED, **NEWER}.items():
        spoil(bad / RECORD)
        code, out, err = zoo("cache", "list", "--json")
        told = json.loads(out)
        assert (code, [entry["path"] for entry in told["releases"]]) == (0, [str(good)]), kind
        (lost,) = told["unread"]
        assert ("newer" in lost["what"]) is (kind in NEWER) and lost["path"] == str(bad), kind
        assert lost["what"] in err and f"internlm-zoo cache rm {bad}" in lost["fix"], kind
        code, out, _ = zoo("cache", "verify", "--json")
        folders = {folder["path"]: folder for folder in json.loads(out)["folders"]}
        assert (code, folders[str(good)]["ok"], folders[str(bad)]["ok"]) == (1, True, False), kind
        code, out, _ = zoo("verify", "tiny", "--json")
        assert [folder["ok"] for folder in json.loads(out)["folders"]] == [True, False], kind
        assert zoo("verify", good)[0] == 0, kind
        assert (zoo("cache", "prune")[0], content_below(bad)) == (0, FILES), kind
        shutil.rmtree(bad / RECORD) if (bad / RECORD).is_dir() else (bad / RECORD).unlink(missing_ok=True)
        (bad / RECORD).write_bytes(whole)
    newer(bad / RECORD)
    assert zoo("cache", "rm", "tiny")[0] == 0
    assert not good.exists() and content_below(bad) == FILES  # the file that they shared stays
    code, _, err = zoo("cache", "rm", "tiny")
    assert code == 4 and f"internlm-zoo cache rm {bad}" in err
    assert zoo("cache", "rm", bad)[0] == 0
    assert not bad.exists() and not list(world.home.glob("blobs/sha256/*/*"))


def test_verify_of_the_one_says_whether_it_is_damaged_or_newer(two) -> None:
    _, _, bad, zoo = two
    newer(bad / RECORD)
    code, _, err = zoo("verify", bad)
    assert code == 7 and "newer version" in err and "update internlm-zoo" in err
    (bad / RECORD).write_bytes(b"")
    code, _, err = zoo("verify", bad)
    assert code == 6 and "damaged" in err and "download it again" in err


def test_downloading_again_writes_a_damaged_record_anew_and_leaves_a_newer_one(two) -> None:
    world, _, bad, zoo = two
    (bad / RECORD).write_bytes(b"{")
    asked = world.requests
    assert zoo("download", "tiny", "--source", "huggingface")[0] == 0
    assert zoo("verify", bad)[0] == 0 and world.requests == asked
    newer(bad / RECORD)
    before = (bad / RECORD).read_bytes()
    code, _, err = zoo("download", "tiny", "--source", "huggingface")
    assert code == 7 and "newer version" in err
    assert (bad / RECORD).read_bytes() == before
    code, out, _ = zoo("download", "tiny", "--format", "hf", "--json")  # the next hub has the same bytes
    assert (code, json.loads(out)["hub"], json.loads(out)["fetched_bytes"]) == (0, "modelscope", 0)


def test_a_damaged_record_in_a_folder_of_ones_own_is_mended_by_force(two, tmp_path: Path) -> None:
    _, _, _, zoo = two
    out = tmp_path / "out"
    command = ("download", "tiny", "--local-dir", out)
    assert zoo(*command)[0] == 0
    (out / RECORD).write_bytes(b"\x00" * 20)
    code, _, err = zoo(*command)
    assert code == 6 and "--force" in err
    assert zoo(*command, "--force")[0] == 0
    assert zoo("verify", out)[0] == 0 and content_below(out) == FILES


def test_a_damaged_lock_stops_no_look_at_the_store(two) -> None:
    """What it pinned is not forgotten in silence."""
    world, _, _, zoo = two
    lock = world.home / "registry.lock"
    whole = lock.read_bytes()
    ways = {kind: spoil for kind, spoil in DAMAGED.items() if kind != "gone"}
    ways["of UTF-16"] = lambda path: path.write_bytes(b"\xff\xfe")
    ways["of a higher version"] = lambda path: path.write_bytes(b"version: 2\nreleases: []\n")
    ways["with fields of later versions"] = lambda path: path.write_bytes(
        whole.replace(b"  trust:", b"  signed: y\n  trust:", 1)
    )
    for kind, spoil in ways.items():
        spoil(lock)
        code, _, err = zoo("verify", "tiny")
        assert code == 0 and "nothing is held against the lock" in err, kind
        assert zoo("cache", "verify")[0] == zoo("cache", "list")[0] == zoo("cache", "prune")[0] == 0, kind
        code, _, err = zoo("download", "tiny")
        assert (code, "registry.lock" in err) == (7 if kind in NEWER else 2, True), kind
        assert ("update internlm-zoo" in err) is (kind in NEWER), kind
        lock.rmdir() if lock.is_dir() else lock.unlink()
        lock.write_bytes(whole)
    lock.write_bytes(b"")
    assert zoo("cache", "rm", "tiny")[0] == 0


@pytest.mark.parametrize("what", ["adopted.jsonl", "blocks", "git"])
def test_other_books_cost_themselves(world: World, tmp_path: Path, what: str) -> None:
    shutil.copytree(world.root / REPO, tmp_path / "disk")
    folder = world.download(adopt=[tmp_path / "disk"]).path
    book = world.home / what
    for kind, spoil in DAMAGED.items():
        shutil.rmtree(book, ignore_errors=True)
        book.unlink(missing_ok=True)
        book.write_text("{}" * 50)
        spoil(book)
        world.download(adopt=[tmp_path / "disk"], force=True)
        assert content_below(folder) == FILES, kind


def test_a_wrong_digest_of_a_block_blames_no_hub(two) -> None:
    """One character of a list that is well formed."""
    world, _, _, zoo = two
    (world.root / REPO / WEIGHTS).write_bytes(bytes(2 * BLOCK))
    (world.home / "registry.lock").unlink()
    folder = world.download(source="modelscope").path
    (known,) = world.home.glob("blocks/*/*.json")
    told = json.loads(known.read_text())
    told["blake3"][1] = told["blake3"][1][::-1]
    known.write_text(json.dumps(told))
    (folder / WEIGHTS).resolve().chmod(0o644)
    (folder / WEIGHTS).write_bytes(bytes(2 * BLOCK - 1) + b"x")
    assert zoo("verify", folder, "--repair")[0] == 0
    assert (folder / WEIGHTS).read_bytes() == bytes(2 * BLOCK)


@pytest.mark.slow
@pytest.mark.parametrize("closed", [RECORD, ".internlm-zoo", ".", ".."])
def test_what_another_account_may_not_see_loses_nothing_to_it(everybodys: Path, closed: str) -> None:
    """A store of several people: `cache prune` of one leaves the blobs of what the other has closed."""
    with ExitStack() as stack:
        world = open_world(everybodys / "world", stack)
        good = world.download(source="openxlab", format="original").path
        bad = world.download(source="huggingface").path
        (world.home / "registry.lock").unlink()
        for path in (world.folder, *world.folder.rglob("*")):
            os.chown(path, 54321, 54321, follow_symlinks=False)
        place = Path(os.path.normpath(bad / closed))
        os.chown(place, 0, 0)
        place.chmod(0o700 if place.is_dir() else 0o600)
        run = partial(run_in, ENVIRONMENTS["nobody"], environ=world.environ, odd=world.home)
        listed = run(["cache", "list", "--json"])
        assert listed.code == 0, listed.err
        assert [entry["path"] for entry in json.loads(listed.out)["releases"]] == [str(good)]
        assert run(["cache", "prune"]).code == 0
        assert run(["verify", good]).code == 0
        place.chmod(0o755)
        assert content_below(bad) == FILES
