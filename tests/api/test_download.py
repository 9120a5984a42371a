"""`zoo.download` in a program of one's own: watched, cancelled, in threads and under asyncio."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import internlm_zoo as zoo
from internlm_zoo.downloads.result import DownloadResult
from tests.timing import PATIENCE
from tests.world import (
    FILES,
    ORIGINAL_FILES,
    REPO,
    WEIGHTS,
    World,
    content_below,
    sha256,
    write,
)

BLOCK = 8 << 20
SIZE = 2 * BLOCK + 12_345


@pytest.fixture
def large(world: World) -> World:
    """Weights of some blocks, from hubs that send 10 MB a second."""
    write(world.root / REPO, {WEIGHTS: random.Random(9).randbytes(SIZE)})
    world.fault("slow", WEIGHTS, rate=10_000_000)
    return world


def test_a_plan_says_what_would_be_done_and_does_nothing(world):
    plan = zoo.plan_download("tiny", source="huggingface", settings=world.settings)
    assert (plan.model, plan.hub, plan.repo, plan.format) == ("tiny", "huggingface", REPO, "hf")
    assert {file.path: file.size for file in plan.files} == {path: len(data) for path, data in FILES.items()}
    assert {file.source for file in plan.files} == {"huggingface"}
    weights = next(file for file in plan.files if file.path == WEIGHTS)
    assert (weights.sha256, weights.to_fetch) == (sha256(FILES[WEIGHTS]), len(FILES[WEIGHTS]))
    assert plan.to_fetch == plan.size == sum(map(len, FILES.values()))
    assert not world.home.exists() and not sum(world.sent.values())
    text = str(plan).splitlines()
    assert text[0] == f"tiny: huggingface:{REPO} at {plan.revision}"
    assert f"  {WEIGHTS}  600.0 kB  huggingface" in text
    assert text[-1] == f"670.0 kB of 670.0 kB to fetch into {plan.path}"


def test_a_plan_that_is_carried_out_gives_its_folder_and_records_the_release(world):
    plan = zoo.plan_download("tiny", format="hf", settings=world.settings)
    assert zoo.download(plan, settings=world.settings).path == plan.path
    assert content_below(plan.path) == FILES
    again = zoo.plan_download("tiny", format="hf", settings=world.settings)
    assert (again.to_fetch, {file.source for file in again.files}) == (0, {None})
    assert "here already" in str(again)
    asked = world.requests
    assert zoo.download("tiny", settings=world.settings).path == plan.path
    assert world.requests == asked
    assert zoo.verify("tiny", settings=world.settings).ok


def test_a_plan_is_narrowed_and_nothing_else_is_fetched(world, tmp_path):
    plan = zoo.plan_download("tiny", source="modelscope", settings=world.settings, local_dir=tmp_path / "out")
    narrow = plan.only("*.json", "*.model", "*.md").without("sub/*")
    assert [file.path for file in narrow.files] == ["config.json", "tokenizer.model"]
    assert narrow.to_fetch == len(FILES["config.json"]) + len(FILES["tokenizer.model"])
    assert zoo.download(narrow, settings=world.settings).path == tmp_path / "out"
    assert content_below(tmp_path / "out").keys() == {"config.json", "tokenizer.model"}
    assert sum(world.sent.values()) == narrow.to_fetch
    assert len(plan.files) == 5


def test_a_plan_without_files_is_refused(world):
    plan = zoo.plan_download("tiny", source="modelscope", settings=world.settings)
    for narrowed in (lambda: plan.only("*.bin"), lambda: plan.without("*"), lambda: replace(plan, files=())):
        with pytest.raises(zoo.ZooError, match="no file is selected"):
            narrowed()


def test_sizes_that_no_hub_tells_are_said_to_be_unknown(world):
    plan = zoo.plan_download("tiny", source="openxlab", format="hf", settings=world.settings)
    assert f"  {WEIGHTS}  size unknown  openxlab" in str(plan)
    assert "0 B of 0 B and 5 files of unknown size to fetch" in str(plan)
    assert content_below(zoo.download(plan, settings=world.settings)) == FILES


def test_a_plan_takes_no_other_wishes(world):
    plan = zoo.plan_download("tiny", source="modelscope", settings=world.settings)
    for wish in ({"format": "hf"}, {"source": "huggingface"}, {"force": True}, {"local_dir": "x"}):
        with pytest.raises(zoo.ZooError, match="a plan says already"):
            zoo.download(plan, settings=world.settings, **wish)


@pytest.mark.parametrize("hub", ["huggingface", "modelscope", "modelers", "openxlab"])
def test_a_hub_that_changed_since_does_not_deliver_something_else(world, hub):
    plan = zoo.plan_download("tiny", source=hub, format="hf", settings=world.settings)
    write(world.root / REPO, {WEIGHTS: b"other weights", "more.bin": b"more"})
    with pytest.raises(zoo.ZooError):
        zoo.download(plan, settings=world.settings)
    assert world.published() == []


def test_a_planned_hub_that_is_down_is_stood_in_for_by_one_with_the_same_bytes(world):
    plan = zoo.plan_download("tiny", format="hf", settings=world.settings).only(WEIGHTS)
    assert plan.files[0].source == "huggingface"
    world.fault("reset", "/*", "huggingface")
    assert content_below(zoo.download(plan, settings=world.settings)) == {WEIGHTS: FILES[WEIGHTS]}
    assert (world.sent["huggingface"], world.sent["modelscope"]) == (0, len(FILES[WEIGHTS]))


def test_a_plan_counts_what_a_cancelled_download_left(large):
    cancelled_at(large, BLOCK + 1_000_000)
    (weights,) = zoo.plan_download("tiny", format="hf", settings=large.settings).only(WEIGHTS).files
    assert weights.to_fetch <= SIZE - BLOCK
    assert "to come" in str(weights)


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


def test_cancelling_stops_and_the_next_run_goes_on(large):
    error, _ = cancelled_at(large, BLOCK + 1_000_000)
    assert isinstance(error, zoo.ZooError) and error.exit_code == 130
    assert "kept" in error.what
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
    assert seconds < PATIENCE / 2  # and not all of what is borne of silence


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
    begun, loop = asyncio.Event(), None

    class Begun(zoo.Progress):
        def advance(self, task: str, amount: int, source: str | None = None) -> None:
            loop.call_soon_threadsafe(begun.set)

    async def fetch(format: str) -> DownloadResult:
        cancel, progress = threading.Event(), Begun() if format == "hf" else None
        options = {"format": format, "settings": large.settings, "progress": progress, "cancel": cancel}
        try:
            return await asyncio.to_thread(zoo.download, "tiny", **options)
        except asyncio.CancelledError:
            cancel.set()
            raise

    async def both() -> Sequence[DownloadResult | BaseException]:
        nonlocal loop
        loop = asyncio.get_running_loop()
        for hub in large.hubs.values():
            hub.clear()
        large.fault("stall", WEIGHTS, after=1_000_000)
        large.fault("slow", "model_tp0*", rate=50_000)
        first, second = asyncio.create_task(fetch("hf")), asyncio.create_task(fetch("original"))
        await begun.wait()
        first.cancel()
        return await asyncio.gather(first, second, return_exceptions=True)

    first, second = asyncio.run(both())
    assert isinstance(first, asyncio.CancelledError)
    assert content_below(second) == ORIGINAL_FILES
    assert {path.parent for path in large.published()} >= {second.path}
    assert not any(path.name == WEIGHTS for path in large.published())
    assert handlers == {number: signal.getsignal(number) for number in handlers}
    assert capsys.readouterr() == ("", "")


def test_many_threads_that_want_the_same_fetch_it_once(large):
    found: list[Path] = []

    def fetch() -> None:
        found.append(zoo.download("tiny", format="hf", settings=large.settings).path)

    for hub in large.hubs.values():
        hub.clear()
    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(found) == 4 and len(set(found)) == 1
    assert content_below(found[0]) == content_below(large.root / REPO)
    assert sum(hub.sent for hub in large.hubs.values()) < SIZE + BLOCK


def test_a_notebook_shows_one_output_that_is_replaced(world, monkeypatch):
    outputs: list[list[str]] = []

    class Handle:
        def update(self, content: str) -> None:
            outputs[-1].append(content)

    def display(content: str, display_id: bool) -> Handle:
        assert display_id
        outputs.append([content])
        return Handle()

    notebook = types.SimpleNamespace(HTML=str, display=display)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(display=notebook))
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    world.fault("flip", WEIGHTS, "huggingface")
    zoo.download("tiny", format="hf", settings=world.settings, progress=zoo.NotebookProgress())
    (pages,) = outputs
    assert len(pages) > 5
    assert "5 of 5 files" in pages[-1] and "670.0/670.0 kB" in pages[-1]
    assert "from huggingface is wrong" in pages[-1]


@pytest.mark.slow
def test_the_guide_runs_as_it_is_written(tmp_path):
    pytest.importorskip("torch", reason="the guide loads a model")
    guide = (Path(__file__).parents[2] / "docs/python-api.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", guide, re.DOTALL))
    environ = {**os.environ, "INTERNLM_ZOO_HOME": str(tmp_path), "INTERNLM_ZOO_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("demo-internlm2-chat: bundled:demo-internlm2-chat at ")
