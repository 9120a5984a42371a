"""A download that is killed or interrupted shows nothing, and the next one goes on where it stood."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hubs import FaultyHub
from tests.processes import start
from tests.store.leftovers import noted
from tests.timing import PATIENCE
from tests.world import REPO, World, content_below, write

BLOCK = 8 << 20
SIZE = 3 * BLOCK + 12_345
DOWNLOAD = ("download", "tiny", "--source", "modelscope", "--max-workers")


@pytest.fixture
def hub(world: World) -> FaultyHub:
    """ModelScope, with weights of some blocks; the last of them do not come before `clear`."""
    write(world.root / REPO, {"model.safetensors": random.Random(9).randbytes(SIZE)})
    hub = world.hubs["modelscope"]
    hub.fault("slow", "model.safetensors", rate=40_000_000, flows=lambda: noted(world) < 2 * BLOCK)
    return hub


@pytest.fixture
def started(world: World) -> Iterator[subprocess.Popen[str]]:
    process = start(world, *DOWNLOAD, "1")
    yield process
    process.kill()
    process.communicate()


def finish(world: World, hub: FaultyHub) -> tuple[Path, int]:
    """Run it to its end with the hub at full speed. Returns the folder, and the byte it went on from."""
    hub.clear()
    before = len(hub.downloads("model.safetensors"))
    process = start(world, *DOWNLOAD, "1")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    asked = hub.downloads("model.safetensors")[before:]
    assert len(asked) == 1
    spoken = asked[0].headers["Range"]
    return Path(out.strip()), int(spoken.removeprefix("bytes=").removesuffix("-"))


def test_after_a_kill_the_next_run_goes_on_at_the_block(
    hub: FaultyHub, world: World, started: subprocess.Popen[str]
) -> None:
    hub.wait(lambda: noted(world) >= 2 * BLOCK)
    started.kill()
    started.wait()
    assert world.published() == []
    path, went_on_from = finish(world, hub)
    assert went_on_from >= 2 * BLOCK
    assert content_below(path) == content_below(world.root / REPO)
    assert list(world.home.glob("partial/*")) == []


def test_files_that_were_whole_before_a_kill_are_not_fetched_again(hub: FaultyHub, world: World) -> None:
    small = ("config.json", "tokenizer.model", "sub/*", "empty.txt")
    process = start(world, *DOWNLOAD, "8")
    hub.wait(lambda: len([*world.home.glob("blobs/sha256/*/*")]) == len(small) and noted(world) >= BLOCK)
    process.kill()
    process.communicate()
    before = [len(hub.downloads(name)) for name in small]
    finish(world, hub)
    assert [len(hub.downloads(name)) for name in small] == before


@pytest.mark.skipif(os.name == "nt", reason="a Ctrl-C cannot be sent to one process there")
def test_ctrl_c_exits_130_with_nothing_shown_and_all_bytes_kept(
    hub: FaultyHub, world: World, started: subprocess.Popen[str]
) -> None:
    hub.wait(lambda: noted(world) >= 2 * BLOCK)
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=PATIENCE)
    assert (started.returncode, out, "Traceback" in err) == (130, "", False)
    assert world.published() == []
    path, went_on_from = finish(world, hub)
    assert went_on_from >= 2 * BLOCK
    assert content_below(path) == content_below(world.root / REPO)


def test_a_torn_partial_file_is_not_believed(
    hub: FaultyHub, world: World, started: subprocess.Popen[str]
) -> None:
    hub.wait(lambda: noted(world) >= 2 * BLOCK)
    started.kill()
    started.wait()
    part = max(world.home.glob("partial/*.part"), key=lambda path: path.stat().st_size)
    with part.open("r+b") as file:
        file.seek(1000)
        file.write(b"torn")
    hub.clear()
    assert content_below(world.download(source="modelscope").path) == content_below(world.root / REPO)


@pytest.mark.slow
def test_two_processes_share_the_work(hub: FaultyHub, world: World) -> None:
    hub.clear()
    hub.fault("slow", "model.safetensors", rate=40_000_000)
    both = [start(world, *DOWNLOAD, "8") for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
    assert hub.sent < 1.2 * sum(map(len, content_below(world.root / REPO).values()))
    shown = [path.parent for path in world.published() if path.name == "model.safetensors"]
    assert content_below(shown[0]) == content_below(world.root / REPO)


def test_a_disk_without_room_is_found_out_before_the_first_byte(
    hub: FaultyHub, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from internlm_zoo.errors import NoSpaceError

    usage = type("Usage", (), {"free": SIZE})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(NoSpaceError, match="more bytes") as caught:
        world.download(source="modelscope")
    assert (caught.value.exit_code, hub.downloads()) == (8, [])
