"""Many processes that want the same bytes: they cross the network once, and whatever the locks are worth, no
file is wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from internlm_zoo.store.record import read_record
from tests.downloads import kills
from tests.processes import start
from tests.timing import PATIENCE
from tests.world import OVERLAY, REPO, WEIGHTS, World, content_below, sha256, write

BLOCK = 8 << 20
NO_LOCKS = "import fcntl; fcntl.flock = lambda *anything: None\n"
pytestmark = pytest.mark.slow  # dozens of processes
OTHER = OVERLAY.replace("  tiny:", "  other:").replace("acme/tiny", "acme/other").replace("\nmodels:\n", "")


def all_at_once(world: World, commands: Sequence[Sequence[str]], before: str = "") -> list[Path]:
    """The folders that the downloads name; they must all succeed."""
    running = [start(world, *command, before=before) for command in commands]
    folders = []
    for process in running:
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert "Traceback" not in err
        folders.append(Path(out.strip()))
    return folders


def assert_whole(world: World, folder: Path, repo: str = REPO) -> None:
    """The release is right, and so is everything in the store; nobody left anything under way."""
    assert content_below(folder) == content_below(world.root / repo)
    for blob in world.home.glob("blobs/sha256/*/*"):
        assert kills.digest(blob) == blob.name
    assert list(world.home.glob("partial/*")) == []


def bytes_of(*roots: Path) -> int:
    """Without what two files have in common."""
    return sum(map(len, {data for root in roots for data in content_below(root).values()}))


def sent(world: World) -> int:
    return sum(world.sent.values())


@pytest.fixture
def large(world: World) -> World:
    write(world.root / REPO, {WEIGHTS: random.Random(9).randbytes(2 * BLOCK + 12_345)})
    world.fault("slow", WEIGHTS, rate=20_000_000)
    return world


def test_sixteen_processes_fetch_a_release_once(large: World) -> None:
    (folder,) = set(all_at_once(large, [("download", "tiny", "--format", "hf")] * 16))
    assert_whole(large, folder)
    assert sent(large) == bytes_of(large.root / REPO)


def test_where_locks_mean_nothing_sixteen_processes_fetch_it_once_all_the_same(large: World) -> None:
    (folder,) = set(all_at_once(large, [("download", "tiny", "--format", "hf")] * 16, before=NO_LOCKS))
    assert_whole(large, folder)
    assert sent(large) == bytes_of(large.root / REPO)


def test_where_locks_mean_nothing_what_was_killed_is_taken_up_by_one(large: World) -> None:
    process = start(large, "download", "tiny", "--format", "hf")
    large.hubs["huggingface"].wait(lambda: sent(large) > 1.5 * BLOCK)
    process.kill()
    process.communicate()
    (folder,) = set(all_at_once(large, [("download", "tiny", "--format", "hf")] * 8, before=NO_LOCKS))
    assert_whole(large, folder)


@pytest.mark.parametrize("at_once", [True, False])
def test_two_releases_fetch_what_they_share_once(large: World, at_once: bool) -> None:
    """Large files that both know by sha256, small ones that both know by git's sha1."""
    write(large.root / "acme/other", {**content_below(large.root / REPO), "own.txt": b"of the other alone"})
    (large.folder / "overlay.yaml").write_text(OVERLAY + OTHER)
    commands = [("download", name, "--source", "huggingface") for name in ("tiny", "other")]
    rounds = [commands] if at_once else [[command] for command in commands]
    tiny, other = (folder for commands in rounds for folder in all_at_once(large, commands))
    assert_whole(large, tiny)
    assert_whole(large, other, "acme/other")
    assert sent(large) == bytes_of(large.root / REPO, large.root / "acme/other")


def test_parts_of_a_release_that_come_at_once_are_all_in_its_record(world: World) -> None:
    names = [f"part-{number:02}.bin" for number in range(24)]
    write(world.root / REPO, {name: name.encode() * 1000 for name in names})
    folder = world.download("empty.txt", source="modelscope").path
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(partial(world.download, source="modelscope"), names))
    here = content_below(folder)
    assert sorted(here) == sorted([*names, "empty.txt"])
    record = read_record(folder)
    assert record is not None
    assert {file.path: file.sha256 for file in record.release.files} == {
        name: sha256(data) for name, data in here.items()
    }
