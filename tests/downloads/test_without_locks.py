"""Where locks are unknown, or granted to everybody, and where another machine holds something: boot, start
and signs of life tell who lives, by the clock of the file server."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.downloads.kills import digest
from tests.environment import ENVIRONMENTS, shim
from tests.environment.places import COMMAND, words
from tests.store.leftovers import noted
from tests.timing import PATIENCE, wait_for
from tests.world import REPO, WEIGHTS, World, content_below, write

SIZE = 6_000_000
DOWNLOAD = ("download", "tiny", "--source", "huggingface")
HONEST, LYING = "plain", "lying flock"

pytestmark = pytest.mark.slow
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def world(world: World) -> World:
    write(world.root / REPO, {WEIGHTS: random.Random(3).randbytes(SIZE)})
    world.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    world.hubs["huggingface"].fault("slow", WEIGHTS, rate=2_000_000, flows=lambda: not noted(world))
    return world


def goes_on(world: World) -> None:
    """The hub, which sends no more than what is noted."""
    world.hubs["huggingface"].clear()
    world.hubs["huggingface"].fault("slow", WEIGHTS, rate=2_000_000)


@pytest.fixture
def start(world: World) -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def start(where: str, *args: str, before: str = "", clock: int = 0) -> subprocess.Popen[str]:
        """where: the environment. before: what it does first. clock: seconds by which its own is wrong."""
        command = words(ENVIRONMENTS[where], world.home)
        if clock:
            command = ["env", f"SHIM_CLOCK={clock}", *(f"{k}={v}" for k, v in shim.preloaded("").items())]
        program = [sys.executable, "-c", f"{before}\n{COMMAND[1]}", *(args or DOWNLOAD)]
        running.append(
            subprocess.Popen(
                [*command, *program], env={**os.environ, **world.environ, "ODD": str(world.home)},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def begun(world: World, start: Start, where: str, **how: str) -> subprocess.Popen[str]:
    process = start(where, **how)
    wait_for(lambda: process.poll() is not None or noted(world))
    assert process.poll() is None, process.communicate()[1]
    return process


def ended(world: World, *processes: subprocess.Popen[str]) -> list[str]:
    """What was said by downloads that ended well, and left nothing once the last of them had."""
    said = []
    for process in processes:
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert content_below(Path(out.strip())) == content_below(world.root / REPO)
        said.append(err)
    assert list(world.home.glob("partial/*")) == []
    return said


def dropped(world: World, process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    goes_on(world)


def as_of_another_machine(world: World, silent: float) -> None:
    """What is held, as if that had been done elsewhere, so many seconds ago by the file server's clock."""
    for path in (*world.home.glob("partial/*.lock"), *world.home.glob("partial/*.life")):
        says = json.loads(path.read_text())
        path.write_text(json.dumps({**says, "boot": "another", "host": "pod-9"}) + "\n")
        moment = path.stat().st_mtime - silent
        os.utime(path, (moment, moment))


def parts(world: World) -> set[Path]:
    return set(world.home.glob("partial/*.part"))


@pytest.mark.parametrize("where", ["no flock", "no lock server", LYING])
def test_without_locks_a_killed_download_is_gone_on_with_and_a_living_one_left_alone(
    world: World, start: Start, where: str
) -> None:
    dropped(world, begun(world, start, where))
    kept, hub = noted(world), world.hubs["huggingface"]
    before = hub.sent
    first = start(where)
    hub.wait(lambda: hub.sent > before)
    second = start(where)
    said = ended(world, first, second)
    assert hub.sent - before <= SIZE - kept + 100_000
    assert "waiting for `" not in said[0]


def test_what_another_machine_holds_counts_until_it_is_silent(world: World, start: Start) -> None:
    dropped(world, begun(world, start, HONEST))
    as_of_another_machine(world, silent=0)
    process = start(HONEST)
    heard = ""
    while "waiting for" not in heard:
        heard = process.stderr.readline()
        assert heard, "it did not wait"
    assert "`-c" not in heard and "on pod-9, since 20" in heard
    assert "this goes on when that ends, or after 60 s without a sign of it" in heard
    as_of_another_machine(world, silent=61)
    ended(world, process)


@pytest.mark.parametrize("clock", [-7200, 7200])
def test_silence_is_measured_by_the_clock_of_the_file_server(world: World, start: Start, clock: int) -> None:
    """Ours is two hours behind, or ahead."""
    dropped(world, begun(world, start, HONEST))
    as_of_another_machine(world, silent=0)
    refused = start(HONEST, "cache", "prune", clock=clock)
    assert "on pod-9" in refused.communicate(timeout=PATIENCE)[1] and refused.returncode == 2
    as_of_another_machine(world, silent=61)
    ended(world, start(HONEST, clock=clock))


def test_who_was_taken_for_dead_and_wakes_up_writes_into_nobodys_file(world: World, start: Start) -> None:
    naps = "import internlm_zoo.transfer.partial as partial; partial._SLEPT_SECONDS = 0\n"
    sleeper = begun(world, start, LYING, before=naps)
    sleeper.send_signal(signal.SIGSTOP)
    as_of_another_machine(world, silent=61)
    mine = parts(world)
    goes_on(world)
    other = start(LYING)
    wait_for(lambda: other.poll() is not None or not parts(world) & mine)
    sleeper.send_signal(signal.SIGCONT)
    assert "waiting for `" in ended(world, sleeper, other)[0]


@pytest.mark.parametrize("where", [HONEST, "no times"])
def test_whoever_waits_for_a_silent_hub_gives_signs_of_life(world: World, start: Start, where: str) -> None:
    world.hubs["huggingface"].clear()
    world.hubs["huggingface"].fault("stall", WEIGHTS)
    process = start(where, before="import converters.locking.heartbeats as beats; beats._SECONDS = 0.05\n")
    world.hubs["huggingface"].wait(lambda: world.hubs["huggingface"].downloads(WEIGHTS))
    lock = world.home / "partial" / f"{digest(world.root / REPO / WEIGHTS)}.lock"
    first = lock.stat().st_mtime_ns
    wait_for(lambda: process.poll() is not None or lock.stat().st_mtime_ns != first)
    assert process.poll() is None
