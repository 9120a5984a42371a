"""`cache prune` takes nothing of a download that lives, whatever it is at, and however long it is silent."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from converters.locking import LockFile, take
from tests.processes import start
from tests.store.leftovers import noted
from tests.timing import PATIENCE, wait_for
from tests.world import FILES, REPO, WEIGHTS, World, content_below, write

pytestmark = pytest.mark.slow
# Hashes the weights only once it may; says that it is about to.
SLOW_HASH = """
import pathlib, time
import internlm_zoo.store.hash_cache as hash_cache
real = hash_cache.hash_file
def slow(path, *rest):
    if path.name == "model.safetensors":
        pathlib.Path({mark!r}).touch()
        while not pathlib.Path({go!r}).exists():
            time.sleep(0.02)
    return real(path, *rest)
hash_cache.hash_file = slow
"""


@contextmanager
def running(world: World, *args: str, before: str = "") -> Iterator[subprocess.Popen[str]]:
    process = start(world, *args, before="import internlm_zoo.cli.cache\n" + before)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def prune(world: World) -> tuple[int, str]:
    process = start(world, "cache", "prune", before="import internlm_zoo.cli.cache\n")
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, err


def below(home: Path) -> set[Path]:
    """What is in the store; not what is there for a moment."""
    return {path for path in home.rglob("*") if path.suffix != ".now" and path.name != "prune.lock"}


def hour_ago(home: Path) -> None:
    for path in below(home):
        os.utime(path, (time.time() - 3600,) * 2, follow_symlinks=False)


def test_a_stopped_download_loses_nothing_however_silent_it_is(world: World) -> None:
    write(world.root / REPO, {WEIGHTS: random.Random(4).randbytes(20 << 20)})
    hub = world.hubs["huggingface"]
    hub.fault("slow", WEIGHTS, rate=4_000_000, flows=lambda: not noted(world))
    with running(world, "download", "tiny", "--source", "huggingface") as process:
        wait_for(lambda: noted(world) and [*world.home.glob("blobs/sha256/*/*")])
        process.send_signal(signal.SIGSTOP)
        hour_ago(world.home)
        before = below(world.home)
        code, err = prune(world)
        assert code == 2 and f"(process {process.pid} on" in err and below(world.home) == before
        hub.clear()
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert content_below(Path(out.strip())) == content_below(world.root / REPO)
    assert prune(world)[0] == 0


@pytest.mark.parametrize("verb", ["adopt", "download"])
def test_blobs_of_no_release_stay_while_a_candidate_is_hashed(world: World, verb: str) -> None:
    """The other files are in the store already, and the release is not shown yet."""
    world.download(source="huggingface")  # locks it
    shutil.rmtree(world.home / "releases")
    shutil.rmtree(world.home / "blobs")
    shutil.copytree(world.root / REPO, world.folder / "disk")
    hour_ago(world.folder / "disk")
    mark, go = world.folder / "mark", world.folder / "go"
    disk = str(world.folder / "disk")
    command = ("cache", "adopt", disk) if verb == "adopt" else ("download", "tiny", "--adopt", disk)
    with running(world, *command, before=SLOW_HASH.format(mark=str(mark), go=str(go))) as process:
        wait_for(lambda: mark.exists() and len([*world.home.glob("blobs/sha256/*/*")]) == len(FILES) - 1)
        hour_ago(world.home)
        assert prune(world)[0] == 2
        assert len([*world.home.glob("blobs/sha256/*/*")]) == len(FILES) - 1
        go.touch()
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert content_below(next(world.home.glob("releases/huggingface/*/*"))) == FILES


def test_a_download_waits_for_a_prune_that_is_under_way(world: World) -> None:
    lock = world.home / "partial" / "prune.lock"
    lock.parent.mkdir(parents=True)
    guard = take(lock)
    assert isinstance(guard, LockFile)
    with running(world, "download", "tiny") as process:
        assert process.stderr is not None
        assert "waiting for `" in process.stderr.readline()
        assert world.requests == 0
        assert prune(world)[0] == 2
        guard.release()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and not lock.exists()


def test_what_a_killed_download_held_is_pruned_at_once(world: World) -> None:
    world.hubs["huggingface"].fault("stall", WEIGHTS, after=1000)
    with running(world, "download", "tiny", "--source", "huggingface") as process:
        wait_for(lambda: [*world.home.glob("partial/*.part")])
        process.kill()
        process.wait()
        assert prune(world) == (0, "")
    assert [*world.home.glob("partial/*")] == [] and [*world.home.glob("blobs/sha256/*/*")] == []
