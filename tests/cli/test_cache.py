"""`cache adopt`, `cache verify` and the sizes of `cache list`, as a person or a script meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import internlm_zoo.cli.cache
import internlm_zoo.cli.download
import internlm_zoo.cli.lock
from internlm_zoo.cli.shell import run
from tests.caches.official import HF, cached
from tests.world import FILES, ORIGINAL_FILES, WEIGHTS, World, content_below, write

ALL = sum(map(len, FILES.values()))
SHARED = "tokenizer.model"


@pytest.fixture
def zoo(world: World, monkeypatch, capsys):
    """Exit code, and what `--json` says."""
    assert internlm_zoo.cli.cache and internlm_zoo.cli.download and internlm_zoo.cli.lock
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)

    def call(*args):
        capsys.readouterr()
        code = run([*map(str, args), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def said(world: World, monkeypatch, capsys):
    """Exit code, stdout, stderr."""
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)

    def call(*args):
        capsys.readouterr()
        code = run([str(arg) for arg in args])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def held(zoo) -> dict[str, dict]:
    return {item["hub"]: item for item in zoo("cache", "list")[1]["releases"]}


def lock(world: World, zoo) -> None:
    assert zoo("lock", "tiny")[0] == 0
    for hub in world.hubs.values():
        hub.requests.clear()


def spoil(blob: Path) -> None:
    blob.chmod(0o644)
    blob.write_bytes(bytes(blob.stat().st_size))


@pytest.mark.parametrize("place", ["plain", "cache"])
def test_a_folder_completes_releases_without_a_request(world: World, zoo, place: str, tmp_path: Path) -> None:
    lock(world, zoo)
    write(tmp_path / "disk" / "sub", FILES)
    folder = tmp_path / "disk" if place == "plain" else Path(cached(world, HF))
    for hub in world.hubs.values():
        hub.requests.clear()
    code, told = zoo("cache", "adopt", folder)
    whole = {item["hub"]: item for item in told["releases"] if item["path"]}
    assert (code, set(whole)) == (0, {"huggingface", "modelscope", "modelers"})
    taken = {Path(file["taken_from"]) for item in whole.values() for file in item["taken"]}
    assert sum(item["bytes"] for item in whole.values()) == ALL
    assert taken == {
        path.resolve() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"
    }
    for hub in whole:
        assert content_below(Path(whole[hub]["path"])) == FILES
    code, done = zoo("download", "tiny", "--offline")
    assert (code, done["fetched_bytes"]) == (0, 0)
    assert world.requests == 0
    assert zoo("cache", "verify")[0] == 0


def test_part_of_a_release_waits_in_the_store_for_the_rest(world: World, zoo, tmp_path: Path) -> None:
    lock(world, zoo)
    some = {path: data for path, data in FILES.items() if path != "config.json"}
    write(tmp_path / "disk", some)
    code, told = zoo("cache", "adopt", tmp_path / "disk")
    parts = {
        item["hub"]: (item["files"], item["files_in_release"], item["path"]) for item in told["releases"]
    }
    assert (code, parts["huggingface"]) == (0, (4, 5, None))
    assert held(zoo) == {}
    _, done = zoo("download", "tiny", "--source", "huggingface")
    assert done["fetched_bytes"] == len(FILES["config.json"])


def test_a_dry_run_takes_nothing(world: World, zoo, tmp_path: Path) -> None:
    lock(world, zoo)
    write(tmp_path / "disk", FILES)
    before = sorted(world.home.rglob("*"))
    _, plan = zoo("cache", "adopt", tmp_path / "disk", "--dry-run")
    assert sorted(world.home.rglob("*")) == before
    assert {item["hub"] for item in plan["releases"] if item["path"]} >= {
        "huggingface",
        "modelscope",
        "modelers",
    }


def test_what_is_not_locked_is_not_known(world: World, said, tmp_path: Path) -> None:
    write(tmp_path / "disk", FILES)
    code, out, err = said("cache", "adopt", tmp_path / "disk")
    assert (code, out) == (0, "no file of a locked release is there\n")
    assert "lock" in err
    assert said("cache", "adopt", tmp_path / "nothing")[0] == 2


def test_a_table_says_what_came(world: World, said, zoo, tmp_path: Path) -> None:
    lock(world, zoo)
    write(tmp_path / "disk", FILES)
    code, out, _ = said("cache", "adopt", tmp_path / "disk")
    assert code == 0
    assert ["tiny", "huggingface:acme/tiny", "5", "670.0", "kB", "5", "of", "5"] in map(
        str.split, out.splitlines()
    )


def test_verify_looks_at_everything_and_at_shared_files_once(world: World, zoo) -> None:
    for source in ("huggingface", "modelscope"):
        zoo("download", "tiny", "--source", source)
    zoo("download", "tiny", "--format", "original")
    code, told = zoo("cache", "verify")
    assert (code, told["ok"], [folder["checked"] for folder in told["folders"]]) == (0, True, [5, 5, 3])
    (shared,) = {path.resolve() for path in world.home.glob(f"releases/*/*/*/{SHARED}")}
    spoil(shared)
    code, told = zoo("cache", "verify")
    wrong = [[file["path"] for file in folder["wrong"]] for folder in told["folders"]]
    assert (code, told["ok"], wrong) == (1, False, [[SHARED]] * 3)
    assert "expected sha256" in told["folders"][0]["wrong"][0]["what"]


def test_verify_names_missing_and_extra_files_and_other_sizes(world: World, zoo) -> None:
    _, done = zoo("download", "tiny", "--source", "huggingface")
    folder = Path(done["path"])
    (folder / WEIGHTS).resolve().unlink()
    (folder / "more").write_bytes(b"")
    blob = (folder / SHARED).resolve()
    blob.chmod(0o644)
    blob.write_bytes(b"short")
    code, told = zoo("cache", "verify", "tiny")
    (report,) = told["folders"]
    assert (code, report["missing"], report["extra"]) == (1, [WEIGHTS], ["more"])
    assert [file["path"] for file in report["wrong"]] == [SHARED]


def test_verify_looks_at_files_of_no_release_too(world: World, zoo) -> None:
    zoo("download", "tiny", "--source", "huggingface")
    zoo("download", "tiny", "--format", "original")
    folder = next(world.home.glob("releases/openxlab/*/*"))
    blob = (folder / "model_tp0_pp0.pt").resolve()
    zoo("cache", "verify")
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()
    assert zoo("cache", "verify")[0] == 0
    spoil(blob)
    code, told = zoo("cache", "verify")
    assert (code, [file["path"] for file in told["folders"][-1]["wrong"]]) == (1, [blob.name])
    assert zoo("cache", "verify", "tiny")[0] == 0


def test_verify_of_nothing(world: World, said) -> None:
    assert said("cache", "verify")[:2] == (0, "the store is empty\n")
    assert said("cache", "verify", "tiny")[0] == 4


def test_own_bytes_are_those_that_go_with_a_release(world: World, zoo) -> None:
    zoo("download", "tiny", "--source", "huggingface")
    assert (held(zoo)["huggingface"]["own_bytes"], held(zoo)["huggingface"]["shared_bytes"]) == (ALL, 0)
    zoo("download", "tiny", "--format", "original")
    shared = len(FILES[SHARED])
    for hub, files in (("huggingface", FILES), ("openxlab", ORIGINAL_FILES)):
        size = sum(map(len, files.values()))
        facts = held(zoo)[hub]
        assert (facts["bytes"], facts["own_bytes"], facts["shared_bytes"]) == (size, size - shared, shared)
    own = held(zoo)["openxlab"]["own_bytes"]
    before = zoo("cache", "list")[1]["blob_bytes"]
    revision = held(zoo)["openxlab"]["revision"]
    zoo("cache", "rm", "tiny", "--revision", revision)
    assert before - zoo("cache", "list")[1]["blob_bytes"] == own


def test_bytes_that_another_tools_cache_has_are_shared(world: World, zoo) -> None:
    _, done = zoo("download", "tiny", "--hf-cache", "--source", "huggingface")
    if (Path(done["path"]) / WEIGHTS).stat().st_nlink == 1:
        pytest.skip("this file system shares blocks, not files")
    facts = held(zoo)["huggingface"]
    assert (facts["own_bytes"], facts["shared_bytes"]) == (0, ALL)
