"""`zoo.download` in a program of one's own: watched, cancelled, in threads and under asyncio."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import internlm_zoo as zoo
from tests.store.world import FILES, ORIGINAL_FILES, REPO, WEIGHTS, World, content_below, open_world, write

BLOCK = 8 << 20
SIZE = 2 * BLOCK + 12_345


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        opened = open_world(tmp_path, stack)
        opened.environ["INTERNLM_ZOO_TIMEOUT"] = "10"
        yield opened


@pytest.fixture
def large(world: World) -> World:
    """Weights of some blocks, from hubs that send 10 MB a second."""
    write(world.root / REPO, {WEIGHTS: random.Random(9).randbytes(SIZE)})
    world.fault("slow", WEIGHTS, rate=10_000_000)
    return world


class Watcher(zoo.Progress):
    """Counts what it is told, by task and by source; sets an event once there is much."""

    def __init__(self, cancel: threading.Event | None = None, after: int = 0) -> None:
        self.planned: list[tuple[int, int | None]] = []
        self.active: dict[str, int] = {}
        self.whole: dict[str, int] = {}
        self.resumed = self.came = 0
        self._cancel, self._after, self._lock = cancel, after, threading.Lock()

    def plan(self, files: int, total: int | None) -> None:
        self.planned.append((files, total))

    def start(self, task: str, total: int | None, done: int = 0) -> None:
        with self._lock:
            self.active[task] = done
            self.resumed += done

    def advance(self, task: str, amount: int, source: str | None = None) -> None:
        with self._lock:
            self.active[task] += amount
            self.came += amount
        if self._cancel and self.came > self._after:
            self._cancel.set()

    def finish(self, task: str) -> None:
        with self._lock:
            self.whole[task] = self.active.pop(task)


def cancelled_at(world: World, after: int, **options) -> tuple[zoo.Cancelled, float]:
    """What a download that is cancelled after so many bytes raises, and after how many seconds."""
    cancel = threading.Event()
    noticed: list[float] = []

    def note_when() -> None:
        cancel.wait()
        noticed.append(time.monotonic())

    threading.Thread(target=note_when, daemon=True).start()
    with pytest.raises(zoo.Cancelled) as caught:
        watcher = Watcher(cancel, after)
        zoo.download("tiny", settings=world.settings, progress=watcher, cancel=cancel, **options)
    return caught.value, time.monotonic() - noticed[0]


def test_a_progress_of_ones_own_is_told_every_byte(world):
    watcher = Watcher()
    zoo.download("tiny", format="hf", settings=world.settings, progress=watcher)
    size = sum(map(len, FILES.values()))
    assert watcher.planned == [(5, size)]
    assert watcher.whole == {name: len(data) for name, data in FILES.items()}
    assert (watcher.came, watcher.resumed, watcher.active) == (size, 0, {})


def test_what_is_here_already_counts_as_resumed(world):
    zoo.download("tiny", format="hf", settings=world.settings)
    watcher = Watcher()
    zoo.download("tiny", format="hf", settings=world.settings, progress=watcher)
    assert (watcher.came, watcher.resumed) == (0, sum(map(len, FILES.values())))
    assert watcher.whole.keys() == FILES.keys()


def test_what_a_progress_raises_comes_out(world):
    class Broken(zoo.Progress):
        def advance(self, task: str, amount: int, source: str | None = None) -> None:
            raise ZeroDivisionError(task)

    with pytest.raises(ZeroDivisionError):
        zoo.download("tiny", settings=world.settings, progress=Broken())
    assert world.published() == []


def test_cancelling_stops_within_a_second_and_the_next_run_goes_on(large):
    error, seconds = cancelled_at(large, BLOCK + 1_000_000)
    assert isinstance(error, zoo.ZooError) and error.exit_code == 130
    assert "kept" in error.what
    assert seconds < 1
    assert large.published() == []
    for hub in large.hubs.values():
        hub.clear()
    watcher = Watcher()
    folder = zoo.download("tiny", format="hf", settings=large.settings, progress=watcher)
    assert content_below(folder) == content_below(large.root / REPO)
    assert watcher.resumed >= BLOCK


def test_a_hub_that_says_nothing_does_not_delay_a_cancel(world):
    world.fault("stall", WEIGHTS, after=1000)
    _, seconds = cancelled_at(world, 0)
    assert seconds < 1


def test_an_event_that_is_set_stops_before_anybody_is_asked(world):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(zoo.Cancelled):
        zoo.download("tiny", settings=world.settings, cancel=cancel)
    assert world.requests == 0


def test_the_callers_event_is_not_set_by_us(world):
    cancel = threading.Event()
    world.fault("flip", WEIGHTS)
    with pytest.raises(zoo.ZooError, match="wrong"):
        zoo.download("tiny", format="hf", settings=world.settings, cancel=cancel)
    assert not cancel.is_set()
    for hub in world.hubs.values():
        hub.clear()
    zoo.download("tiny", format="hf", settings=world.settings, cancel=cancel)
    assert not cancel.is_set()


def test_two_at_once_in_one_process_and_the_end_of_one_leaves_the_other_alone(large, capsys):
    """Under asyncio, with one store; a cancelled task sets its event."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    begun = asyncio.Event()

    class Begun(zoo.Progress):
        def advance(self, task: str, amount: int, source: str | None = None) -> None:
            loop.call_soon_threadsafe(begun.set)

    async def fetch(format: str) -> Path:
        cancel, progress = threading.Event(), Begun() if format == "hf" else None
        options = {"format": format, "settings": large.settings, "progress": progress, "cancel": cancel}
        try:
            return await asyncio.to_thread(zoo.download, "tiny", **options)
        except asyncio.CancelledError:
            cancel.set()
            raise

    async def both() -> tuple[object, object]:
        nonlocal loop
        loop = asyncio.get_running_loop()
        large.fault("slow", "model_tp0*", rate=50_000)
        first, second = asyncio.create_task(fetch("hf")), asyncio.create_task(fetch("original"))
        await begun.wait()
        first.cancel()
        return tuple(await asyncio.gather(first, second, return_exceptions=True))

    loop = None
    first, second = asyncio.run(both())
    assert isinstance(first, asyncio.CancelledError)
    assert content_below(second) == ORIGINAL_FILES
    assert {path.parent for path in large.published()} >= {second}
    assert not any(path.name == WEIGHTS for path in large.published())
    assert handlers == {number: signal.getsignal(number) for number in handlers}
    assert capsys.readouterr() == ("", "")


def test_many_threads_that_want_the_same_fetch_it_once(large):
    found: list[Path] = []

    def fetch() -> None:
        found.append(zoo.download("tiny", format="hf", settings=large.settings))

    for hub in large.hubs.values():
        hub.clear()
    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4 and len(set(found)) == 1
    assert content_below(found[0]) == content_below(large.root / REPO)
    assert sum(hub.sent for hub in large.hubs.values()) < SIZE + BLOCK
