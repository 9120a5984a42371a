"""A disk that fills up during a download: exit code 8, nothing shown, and it goes on once there is room.

The disk is a real one of a few megabytes, mounted in a mount namespace that goes with the test."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import Any

import pytest

from tests.mounts import mounted
from tests.timing import PATIENCE
from tests.world import REPO, WEIGHTS, World, content_below, write

BLOCK = 8 << 20
SIZE = 4 * BLOCK + 12_345
COMMAND = """
import contextlib, io, json, os, sys, threading, time
from pathlib import Path
import internlm_zoo.cli.catalogue, internlm_zoo.cli.download
from internlm_zoo.cli.shell import run

home = Path(os.environ["INTERNLM_ZOO_HOME"])
ballast = home / "ballast"

def fill_up():
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass

def fill_up_later(enough):
    def held():
        with contextlib.suppress(FileNotFoundError):
            return sum(path.stat().st_blocks * 512 for path in home.glob("partial/*.part"))
        return 0
    while held() < enough:
        time.sleep(0.001)
    fill_up()
    (home.parent / "filled").touch()

def download():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["download", "tiny", "--source", "modelscope", "--max-workers", sys.argv[1]])
    names = [path.relative_to(home).as_posix() for path in home.rglob("*") if not path.is_dir()]
    return code, names, err.getvalue(), out.getvalue().strip()

filling = threading.Thread(target=fill_up_later, args=(int(sys.argv[2]),))
filling.start()
first = download()
filling.join()
fill_up()
second = download()
ballast.unlink()
third = download()
(home.parent / "told.json").write_text(json.dumps([first, second, third]))
os.execlp("cp", "cp", "-rL", third[3], str(home.parent / "copy"))
"""


def run_on_a_small_disk(world: World, workers: int, fill_after: int) -> list[Any]:
    """What three downloads came to: exit code, names in the store, stderr, stdout. The disk is filled during
    the first, full during the second, and has room for the third."""
    world.home.mkdir()
    mount = mounted(f"-t tmpfs -o size={SIZE + 6_000_000} tmpfs {world.home}")
    command = [*mount, sys.executable, "-c", COMMAND, str(workers), str(fill_after)]
    env = {**os.environ, **world.environ}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return json.loads((world.home.parent / "told.json").read_text())


@pytest.mark.parametrize(("workers", "fill_after"), [(1, 2 * BLOCK), (4, BLOCK), (4, SIZE - BLOCK)])
def test_it_exits_with_8_keeps_what_came_and_goes_on_when_there_is_room(
    world: World, workers: int, fill_after: int
) -> None:
    write(world.root / REPO, {WEIGHTS: random.Random(9).randbytes(SIZE)})
    hub = world.hubs["modelscope"]

    def flows() -> bool:
        sent = sum(seen.sent for seen in hub.downloads(WEIGHTS))
        return sent < fill_after + 1_000_000 or (world.home.parent / "filled").exists()

    hub.fault("slow", WEIGHTS, rate=20_000_000, flows=flows)
    first, second, third = run_on_a_small_disk(world, workers, fill_after)
    wanted = content_below(world.root / REPO)
    for code, names, _, out in (first, second):
        assert (code, out) == (8, "")
        assert not any(name.startswith("releases/") for name in names)
        assert any(name.startswith("partial/") and name.endswith(".part") for name in names)
    assert "the disk is full" in first[2] and "goes on where it stopped" in first[2]
    assert "more bytes and the disk has" in second[2]
    assert third[0] == 0
    assert not [name for name in third[1] if name.startswith("partial/")]
    assert content_below(world.home.parent / "copy") == wanted
    assert hub.sent - sum(map(len, wanted.values())) <= workers * BLOCK
