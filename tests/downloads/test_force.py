"""`--force` hashes what is here, wherever it lies; and what others may have changed is noticed without it."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from internlm_zoo.store.record import verified_digests
from internlm_zoo.transfer.blocks import BLOCK
from tests.caches.test_adopt import aged, edit
from tests.world import FILES, REPO, WEIGHTS, World, content_below, write

LARGE = random.Random(9).randbytes(2 * BLOCK + 99)


def edit_unseen(path: Path) -> None:
    """Change a byte; size, mode and time of change stay as they were."""
    real, before = path.resolve(), path.stat()
    real.chmod(0o644)
    edit(real)
    real.chmod(before.st_mode)
    os.utime(real, ns=(before.st_atime_ns, before.st_mtime_ns))


def without_links(folder: Path) -> None:
    """As a zip, `cp -rL` or a file system without links leaves a release."""
    for link in [path for path in folder.rglob("*") if path.is_symlink()]:
        blob = link.resolve()
        link.unlink()
        shutil.copy2(blob, link)


def in_the_store(world: World) -> dict[str, Path]:
    return {"place": world.download().path}


def as_copies(world: World) -> dict[str, Path]:
    without_links(world.download().path)
    return {"place": world.download().path}


def in_a_folder(world: World) -> dict[str, Path]:
    return {"place": world.download(local_dir=world.folder / "out").path, "local_dir": world.folder / "out"}


@pytest.mark.parametrize("made", [in_the_store, as_copies, in_a_folder])
def test_force_finds_a_byte_that_nothing_tells_of(
    world: World, made: Callable[[World], dict[str, Path]]
) -> None:
    options = made(world)
    folder = options.pop("place")
    edit_unseen(folder / WEIGHTS)
    assert content_below(folder) != FILES
    again = world.download(**options, force=True)
    assert content_below(folder) == FILES
    fetched = {file.path for file in again.files if file.source}
    assert fetched == (set() if made is as_copies else {WEIGHTS})
    if made is as_copies:
        assert any(WEIGHTS in note and "from the store" in note for note in again.notes)
    assert world.download(**options, force=True).fetched_bytes == 0


@pytest.mark.parametrize("where", [None, "out"])
def test_force_fetches_the_bad_blocks_alone(world: World, zoo, monkeypatch, where: str | None) -> None:
    write(world.root / REPO, {WEIGHTS: LARGE})
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    command = ["download", "tiny", *(["--local-dir", world.folder / where] if where else []), "--json"]
    code, out, _ = zoo(*command)
    folder = Path(json.loads(out)["path"])
    edit_unseen(folder / WEIGHTS)
    planned = json.loads(zoo(*command, "--force", "--dry-run")[1])
    code, out, err = zoo(*command, "--force")
    told = json.loads(out)
    assert (code, told["fetched_bytes"], planned["to_fetch"]) == (0, BLOCK, BLOCK)
    assert told["reused_bytes"] == sum(map(len, FILES.values())) - len(FILES[WEIGHTS]) + len(LARGE) - BLOCK
    assert f"{WEIGHTS} is not what it should be" in err
    assert (folder / WEIGHTS).read_bytes() == LARGE


def test_a_damaged_blob_is_taken_from_the_releases_own_copy(world: World) -> None:
    folder = world.download().path
    blob = (folder / WEIGHTS).resolve()
    without_links(folder)
    edit_unseen(blob)
    sent = world.sent
    done = world.download(force=True)
    assert (content_below(folder), blob.read_bytes()) == (FILES, FILES[WEIGHTS])
    assert (world.sent, done.fetched_bytes) == (sent, 0)


def test_force_says_what_it_found(world: World, zoo, monkeypatch) -> None:
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    folder = world.download().path
    without_links(folder)
    edit_unseen(folder / WEIGHTS)
    code, _, err = zoo("download", "tiny", "--force")
    assert code == 0 and f"{WEIGHTS} in the release was not what it should be" in err


def test_a_copy_in_a_release_that_was_written_to_is_noticed_without_force(world: World) -> None:
    folder = world.download().path
    without_links(folder)
    (folder / WEIGHTS).chmod(0o644)
    edit(folder / WEIGHTS)
    asked = world.requests
    assert content_below(world.download().path) == FILES
    assert world.requests == asked


def moved(world: World, disk: Path) -> None:
    world.home.rename(world.folder / "elsewhere")
    world.environ["INTERNLM_ZOO_HOME"] = str(world.folder / "elsewhere")


def behind_a_link(world: World, disk: Path) -> None:
    (world.folder / "link").symlink_to(world.home)
    world.environ["INTERNLM_ZOO_HOME"] = str(world.folder / "link")


def alone(world: World, disk: Path) -> None:
    """The store has lost its memory, and the file its other name."""
    (world.home / "adopted.jsonl").write_text('{"path": "/old", "size": 1, "mtime_ns": 1, "inode": 1}\n')


def copied(world: World, disk: Path) -> None:
    """A backup has its own inodes, and the times of the originals."""
    shutil.copytree(world.home, world.folder / "backup", symlinks=True)
    world.environ["INTERNLM_ZOO_HOME"] = str(world.folder / "backup")
    [blob] = (world.folder / "backup").glob(f"releases/*/*/*/{WEIGHTS}")
    edit_unseen(blob)


@pytest.mark.parametrize("happened", [moved, behind_a_link, alone, copied, None])
def test_an_edit_of_an_adopted_original_is_noticed(
    world: World, tmp_path: Path, happened: Callable[[World, Path], None] | None
) -> None:
    """A read-only file of another tool's, edited in place, with its time set back."""
    write(tmp_path / "disk", FILES)
    aged(tmp_path / "disk")
    for path in (path for path in (tmp_path / "disk").rglob("*") if path.is_file()):
        path.chmod(0o444)
    world.download(source="modelscope", adopt=[tmp_path / "disk"])
    edit_unseen(tmp_path / "disk" / WEIGHTS)
    if happened:
        happened(world, tmp_path / "disk")
    again = world.download(source="modelscope")
    assert content_below(again.path) == FILES


def test_what_a_conversion_takes_over_unread_was_not_edited_either(world: World) -> None:
    """Its record states digests of a download; see test_record.py of the converters."""
    for folder in (world.download().path, world.download(local_dir=world.folder / "out").path):
        assert set(verified_digests(folder)) == set(FILES)
        edit_unseen(folder / WEIGHTS)
        assert set(verified_digests(folder)) == set(FILES) - {WEIGHTS}
        world.download(force=True)
