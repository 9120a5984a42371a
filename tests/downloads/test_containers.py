"""Containers that are killed and started again: always process 1, always the same host name, one volume."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import Environment
from tests.environment.places import COMMAND
from tests.store.leftovers import noted, on_disk
from tests.timing import PATIENCE, wait_for
from tests.world import REPO, WEIGHTS, World, content_below, write

BLOCK = 8 << 20
SIZE = 3 * BLOCK + 12_345
CONNECTIONS = 3
LIVES = 20
DOWNLOAD = ("download", "tiny", "--source", "huggingface", "--max-workers", str(CONNECTIONS))
_POD = Environment("pod", "process 1 with a host name of its own", namespaces="-pfmu")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_POD.why_not is not None, reason=str(_POD.why_not)),
]


@pytest.fixture
def volume(world: World) -> World:
    write(world.root / REPO, {WEIGHTS: random.Random(6).randbytes(SIZE)})
    world.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    return world


def pod(world: World, *args: str, before: str = "") -> subprocess.Popen[str]:
    """The command line in a container; killed, it takes its processes with it. before: what it does first."""
    inside = ["sh", "-c", 'hostname pod-0; exec "$@"', "sh"]
    through = ["unshare", "-pfmu", "--kill-child", "--mount-proc", *inside]
    return subprocess.Popen(
        [*through, sys.executable, "-c", f"{before}\n{COMMAND[1]}", *args],
        env={**os.environ, **world.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lives_until_more_is_kept(world: World, *args: str) -> int:
    """Start a container, and kill it as soon as it has noted more than it found; more does not come."""
    hub, before = world.hubs["huggingface"], noted(world)
    hub.fault("slow", WEIGHTS, rate=200_000, flows=lambda: noted(world) <= before)
    process = pod(world, *(args or DOWNLOAD))
    wait_for(lambda: process.poll() is not None or noted(world) > before)
    assert process.poll() is None, process.communicate()[1]
    process.kill()
    process.communicate()
    hub.clear()
    return noted(world) - before


def ends_well(world: World, *args: str) -> str:
    process = pod(world, *args)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    return out


def test_a_crash_loop_makes_progress_in_bounded_room(volume: World) -> None:
    hub = volume.hubs["huggingface"]
    for _ in range(LIVES):
        assert lives_until_more_is_kept(volume) > 0
        assert on_disk(volume) <= SIZE + CONNECTIONS * BLOCK
        assert len(list(volume.home.glob("partial/*.part"))) <= CONNECTIONS
    kept, before = noted(volume), hub.sent
    assert json.loads(ends_well(volume, "cache", "prune", "--dry-run", "--json"))["bytes"] > kept
    folder = Path(ends_well(volume, *DOWNLOAD).strip())
    assert content_below(folder) == content_below(volume.root / REPO)
    assert hub.sent - before <= SIZE - kept + 100_000
    assert hub.sent <= SIZE + LIVES * CONNECTIONS * BLOCK
    assert list(volume.home.glob("partial/*")) == []


def test_what_a_killed_container_left_can_be_pruned(volume: World) -> None:
    lives_until_more_is_kept(volume)
    ends_well(volume, "cache", "prune")
    assert list(volume.home.glob("partial/*")) == []


def test_two_containers_of_one_name_share_a_volume_and_the_work(volume: World) -> None:
    """Both are process 1 of pod-0; the second says for whom it waits, and of each file once."""
    hub = volume.hubs["huggingface"]
    hub.fault("slow", WEIGHTS, rate=4_000_000, flows=lambda: noted(volume) < BLOCK)
    first = pod(volume, *DOWNLOAD)
    hub.wait(lambda: noted(volume) >= BLOCK)
    inside = int(Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()[0])
    os.kill(inside, signal.SIGSTOP)
    refused = pod(volume, "cache", "prune")
    assert refused.communicate(timeout=PATIENCE)[1].count("a download is under way: `") == 1
    second = pod(volume, *DOWNLOAD)
    assert second.stderr is not None
    heard = ""
    while "waiting for `" not in heard:
        heard = second.stderr.readline()
        assert heard, "it did not wait"
    assert "(process 1 on pod-0, since 20" in heard
    hub.clear()
    os.kill(inside, signal.SIGCONT)
    outs = [process.communicate(timeout=PATIENCE) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], outs
    lines = [heard, *outs[1][1].splitlines()]
    waited = [line.partition(", which holds ")[2] for line in lines if "waiting for" in line]
    assert len(waited) == len(set(waited)), waited
    assert hub.sent <= SIZE + 1_000_000
    assert list(volume.home.glob("partial/*")) == []


def test_a_mirror_and_its_guard_are_gone_on_with(volume: World) -> None:
    hub, file = volume.hubs["huggingface"], volume.folder / "mirror.yaml"
    file.write_text("destination: mirror\nmodels: [tiny]\nformats: [hf]\nhubs: [huggingface]\n")
    lives_until_more_is_kept(volume, "mirror", "apply", str(file))
    kept, before = noted(volume), hub.sent
    ends_well(volume, "mirror", "apply", str(file))
    assert hub.sent - before <= SIZE - kept + 1_000_000
    assert content_below(volume.folder / "mirror" / REPO) == content_below(volume.root / REPO)


def test_a_conversion_is_gone_on_with_and_leaves_nothing(volume: World, tmp_path: Path) -> None:
    from tests.converters.oracle import INTERNLM2, make_model, write_original

    source = write_original(tmp_path / "source", make_model(INTERNLM2), INTERNLM2, 2)
    convert = ("convert", str(source), str(tmp_path / "out" / "hf"), "--to", "hf", "--workers", "1")
    hangs = (
        "import os, time; os.fsync = os.pwrite = lambda *a: (print('hangs', flush=True), time.sleep(3600))"
    )
    process = pod(volume, *convert, before=hangs)
    assert process.stdout is not None and process.stdout.readline() == "hangs\n"
    process.kill()
    process.communicate()
    assert "waiting" not in ends_well(volume, *convert)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["hf"]
