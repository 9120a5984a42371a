"""What systems and tools leave in folders makes none of them full, and no download wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import internlm_zoo.cli.cache
from converters.system.system_files import SYSTEMS
from tests.world import FILES, REPO, World, content_below, write

FRESH_VOLUME = (
    "lost+found/",
    ".Trash-1000/files/model.safetensors",
    ".DS_Store",
    "System Volume Information/x",
)
BESIDE = (
    *(
        ".git/config",
        ".gitattributes",
        ".cache/huggingface/download/config.json.metadata",
        ".msc",
        ".mdl",
        ".mv",
    ),
    *("._model.safetensors", "sub/Thumbs.db", "sub/.nfs0000000001", "@eaDir/config.json@SynoEAStream"),
    *(".snapshot/hourly.0/config.json", "desktop.ini"),
)


def leave(folder: Path, *paths: str) -> None:
    for path in paths:
        place = folder / path
        (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            place.write_bytes(b"left")


def left(folder: Path, *paths: str) -> set[str]:
    return {path for path in paths if (folder / path).exists()}


@pytest.fixture
def run(world: World, zoo, monkeypatch):
    assert internlm_zoo.cli.cache
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    return zoo


def test_a_fresh_volume_is_an_empty_folder(world: World, run, tmp_path: Path) -> None:
    leave(tmp_path / "vol", *FRESH_VOLUME)
    code, _, err = run("download", "tiny", "--local-dir", tmp_path / "vol")
    assert code == 0, err
    assert left(tmp_path / "vol", *FRESH_VOLUME) == set(FRESH_VOLUME)
    leave(tmp_path / "used", "notes.txt")
    assert run("download", "tiny", "--local-dir", tmp_path / "used")[0] == 2


def test_what_lies_beside_a_download_is_not_extra(world: World, run, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert run("download", "tiny", "--local-dir", folder)[0] == 0
    leave(folder, *FRESH_VOLUME, *BESIDE)
    code, out, _ = run("verify", folder)
    assert code == 0, out
    leave(folder, "extra.bin")
    assert json.loads(run("verify", folder, "--json")[1])["folders"][0]["extra"] == ["extra.bin"]


def test_a_file_of_the_release_is_checked_whatever_it_is_called(world: World, run, tmp_path: Path) -> None:
    write(tmp_path / "disk" / REPO, {**FILES, ".gitattributes": b"*.bin lfs"})
    folder = tmp_path / "out"
    assert run("download", "tiny", "--local-dir", folder, "--source", tmp_path / "disk")[0] == 0
    (folder / ".gitattributes").write_bytes(b"*.bin mine")
    assert run("verify", folder)[0] == 1


def test_what_a_desktop_leaves_in_the_store_is_neither_release_nor_blob(world: World, run) -> None:
    assert run("download", "tiny")[0] == 0
    for place in (".DS_Store", "@eaDir/x", "huggingface/@eaDir/x/y", "huggingface/acme--tiny/.snapshot/x"):
        leave(world.home / "releases", place)
    leave(next(world.home.glob("blobs/sha256/??")), "Thumbs.db")
    listed = json.loads(run("cache", "list", "--json")[1])
    assert (len(listed["releases"]), listed["unread"]) == (1, [])
    assert run("cache", "verify")[0] == 0
    assert json.loads(run("cache", "prune", "--json")[1])["files"] == []


def test_adoption_does_not_look_into_snapshots_or_the_trash(world: World, tmp_path: Path) -> None:
    write(tmp_path / "disk" / ".snapshot" / "hourly.0", FILES)
    write(tmp_path / "disk" / ".Trash-0" / "files", FILES)
    plan = world.plan(source="modelscope", adopt=[tmp_path / "disk"])
    assert plan.to_fetch == sum(map(len, FILES.values()))


def test_a_clone_of_git_or_a_cameras_folder_can_stand_in_for_a_hub(world: World, tmp_path: Path) -> None:
    write(tmp_path / "disk" / REPO, FILES)
    leave(tmp_path / "disk" / REPO, *FRESH_VOLUME, *BESIDE)
    assert content_below(world.download(source=str(tmp_path / "disk"), format="hf").path) == FILES | {
        ".gitattributes": b"left"
    }


def test_the_table_compares_names_without_regard_to_case() -> None:
    names = [name for names in SYSTEMS.values() for name in names]
    assert all(name == name.casefold() for name in names)
    assert len(names) == len(set(names))
