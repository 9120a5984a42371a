"""A conversion killed at any moment: the same command again ends in the same bytes, and no litter."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

import converters
from converters.errors import UsageError
from tests.converters.oracle import INTERNLM2, make_model, write_original
from tests.timing import PATIENCE

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

WAYS = {
    "hf": {"to": "hf", "max_shard_size": "500KB", "workers": 1},
    "original": {"to": "original", "tp": 4, "pp": 2, "workers": 1},
}
CHILD = """
import os, sys
import converters

class DiesAt:
    def __init__(self, steps): self.left = steps
    def step(self):
        self.left -= 1
        if self.left == 0: os.kill(os.getpid(), number)
    def start(self, task, total=None, done=0): pass
    def advance(self, task, amount): self.step()
    def finish(self, task): self.step()
    def note(self, text): pass

src, dst, options, steps, number = sys.argv[1], sys.argv[2], eval(sys.argv[3]), *map(int, sys.argv[4:])
print("ready", flush=True)
converters.convert(src, dst, progress=DiesAt(steps), **options)
"""
NEVER = 1 << 60


def child(src, dst, options, steps=NEVER, number=signal.SIGKILL):
    """A conversion that sends itself that signal after so many steps."""
    command = [sys.executable, "-c", CHILD, str(src), str(dst), repr(options), str(steps), str(int(number))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def src(tmp_path_factory):
    """About 9 MB, in some tens of tensors."""
    dims = replace(INTERNLM2, layers=4, hidden=256, inter=1024, vocab=2048)
    return write_original(tmp_path_factory.mktemp("crash") / "src", make_model(dims), dims, 2)


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def assert_a_rerun_finishes(src, dst, way, wanted):
    """The same command again, with no force: the undisturbed bytes, and nothing beside them."""
    converters.convert(src, dst, **way)
    assert content(dst) == wanted
    assert [path.name for path in dst.parent.iterdir()] == [dst.name]


@pytest.fixture
def wanted(tmp_path, src, way):
    converters.convert(src, tmp_path / "undisturbed", **way)
    return content(tmp_path / "undisturbed")


class Counter:
    """Counts the steps at which a child with as many would die."""

    def __init__(self):
        self.steps = 0

    def start(self, task, total=None, done=0): ...

    def advance(self, task, amount):
        self.steps += 1

    def finish(self, task):
        self.steps += 1

    def note(self, text): ...


@pytest.fixture
def steps(tmp_path, src, way):
    counter = Counter()
    converters.convert(src, tmp_path / "counted", progress=counter, **way)
    assert counter.steps > 50
    return counter.steps


def folder(tmp_path, number):
    (tmp_path / str(number)).mkdir()
    return tmp_path / str(number) / "dst"


@pytest.mark.parametrize("part", [0, 0.3, 0.7, 0.99])
def test_killed_at_a_step_of_its_work_a_rerun_finishes(tmp_path, src, way, wanted, steps, part):
    dst = folder(tmp_path, part)
    with child(src, dst, way, 1 + int(part * (steps - 1))) as process:
        assert process.wait(PATIENCE) == -signal.SIGKILL
    assert_a_rerun_finishes(src, dst, way, wanted)


class Written(Counter):
    """Bytes written to weight files, by file."""

    def __init__(self):
        super().__init__()
        self.bytes = {}

    def advance(self, task, amount):
        if task.startswith("model"):
            self.bytes[task] = self.bytes.get(task, 0) + amount


@pytest.mark.parametrize("part", [0.2, 0.4, 0.6])
def test_what_was_written_before_a_kill_is_not_written_again(tmp_path, src, way, wanted, steps, part):
    """Whole tensors, and so whole files, stay as they are; one batch of tensors at most is done twice."""
    undisturbed, again = Written(), Written()
    converters.convert(src, tmp_path / "all", progress=undisturbed, **way)
    dst = folder(tmp_path, "dst")
    with child(src, dst, way, int(steps * part)) as process:
        assert process.wait(PATIENCE) == -signal.SIGKILL
    report = converters.convert(src, dst, progress=again, **way)
    assert content(dst) == wanted
    assert set(report.kept) == undisturbed.bytes.keys() - again.bytes.keys()
    assert report.kept or way["to"] == "original"  # where all ranks of a stage are finished together
    assert sum(again.bytes.values()) < (1.1 - part / 2) * sum(undisturbed.bytes.values())


@pytest.mark.parametrize("cut", [1, 20])
def test_a_line_of_the_journal_that_is_cut_short_is_not_believed(tmp_path, src, way, wanted, steps, cut):
    dst = folder(tmp_path, "dst")
    with child(src, dst, way, steps // 2) as process:
        assert process.wait(PATIENCE) == -signal.SIGKILL
    (journal,) = dst.parent.glob(".*/journal")
    journal.write_bytes(journal.read_bytes()[:-cut])
    assert_a_rerun_finishes(src, dst, way, wanted)


def test_a_rerun_with_other_options_does_not_take_over_what_it_finds(tmp_path, src, way, wanted):
    other = {**way, "max_shard_size": "2MB"} if way["to"] == "hf" else {**way, "tp": 2}
    dst = folder(tmp_path, "other")
    with child(src, dst, way, 10) as process:
        assert process.wait(PATIENCE) == -signal.SIGKILL
    converters.convert(src, tmp_path / "wanted", **other)
    try:
        converters.convert(src, dst, **other)
    except UsageError:  # what lies there is not empty: it may ask
        converters.convert(src, dst, force=True, **other)
    assert content(dst) == content(tmp_path / "wanted")
    assert [path.name for path in dst.parent.iterdir()] == [dst.name]


def test_a_rerun_that_reads_the_source_otherwise_begins_anew(tmp_path, src, way, wanted):
    """adapt_hf decides the order of rows, and changes no name and no shape."""
    dst = folder(tmp_path, "otherwise")
    with child(src, dst, way, 60) as process:
        assert process.wait(PATIENCE) == -signal.SIGKILL
    given = {"adapt_hf": False}
    converters.convert(src, tmp_path / "wanted", given=given, **way)
    converters.convert(src, dst, given=given, **way)
    assert content(dst) == content(tmp_path / "wanted")


def test_a_tokenizer_of_the_killed_run_is_not_left_in_another(tmp_path, src, way, wanted):
    dst = folder(tmp_path, "tokenizer")
    tokenizer = Path(__file__).parents[3] / "internlm_zoo/demo/models/demo-internlm2-chat/tokenizer.model"
    with child(src, dst, {**way, "tokenizer": str(tokenizer)}, 60) as process:
        assert process.wait(PATIENCE) == -signal.SIGKILL
    converters.convert(src, dst, **way)
    assert content(dst) == wanted


def test_a_source_that_changed_after_the_kill_is_read_anew(tmp_path, src, way, wanted):
    changed = tmp_path / "changed"
    shutil.copytree(src, changed)
    dst = folder(tmp_path, "dst")
    with child(changed, dst, way, 10) as process:
        assert process.wait(PATIENCE) == -signal.SIGKILL
    for path in changed.glob("model_tp*.pt"):
        state = torch.load(path, weights_only=True)
        for tensor in state.values():
            tensor.neg_()
        torch.save(state, path)
    converters.convert(changed, tmp_path / "wanted", **way)
    converters.convert(changed, dst, **way)
    assert content(dst) == content(tmp_path / "wanted")


def spent(process):
    """Seconds of the processor."""
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


@pytest.mark.slow
def test_fifty_kills_at_random_times(tmp_path, src, way, wanted):
    """Of its own processor, whatever others do. Every third rerun is killed too."""
    with child(src, folder(tmp_path, "whole"), way) as process:
        process.stdout.readline()
        before, begun = os.times(), spent(process)
        assert process.wait(PATIENCE) == 0
    after = os.times()
    whole = after.children_user + after.children_system - before.children_user - before.children_system
    dice = random.Random(0)
    killed = 0
    for number in range(50):
        dst = folder(tmp_path, number)
        for _ in range(1 + (number % 3 == 0)):
            with child(src, dst, way) as process:
                process.stdout.readline()
                until = dice.uniform(begun, whole)
                while process.poll() is None and spent(process) < until:
                    time.sleep(0.001)
                process.kill()
                killed += process.wait(PATIENCE) == -signal.SIGKILL
        assert_a_rerun_finishes(src, dst, way, wanted)
    assert killed >= 25


def test_two_of_one_target_take_turns_and_the_second_says_for_whom_it_waits(tmp_path, src, way, wanted):
    dst = folder(tmp_path, "shared")
    with child(src, dst, way, 1, signal.SIGSTOP) as first:
        os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WNOWAIT)
        heard = []
        second = threading.Thread(
            target=converters.convert, args=(src, dst), kwargs=way | {"progress": Notes(heard)}
        )
        second.start()
        while not any(note.startswith("waiting for `python") for note in heard):
            time.sleep(0.01)
        os.kill(first.pid, signal.SIGCONT)
        assert first.wait(PATIENCE) == 0
        second.join()
    assert f"(process {first.pid} on {socket.gethostname()}, since 20" in "".join(heard)
    assert content(dst) == wanted
    assert [path.name for path in dst.parent.iterdir()] == [dst.name]


class Notes(Counter):
    def __init__(self, heard):
        super().__init__()
        self.note = heard.append


def test_an_interrupt_does_not_wait_for_a_large_tensor_that_a_thread_is_at(tmp_path):
    """In a caller's own process, whose threads live on."""
    dims = replace(INTERNLM2, layers=1, hidden=256, vocab=1 << 16)
    src, dst = write_original(tmp_path / "large", make_model(dims), dims, 1), tmp_path / "out"
    main, large = threading.current_thread(), threading.Event()

    class Interrupts(Counter):
        """The main thread is interrupted while another one writes a tensor of some tens of blocks."""

        def advance(self, task, amount):
            if threading.current_thread() is main:
                assert large.wait(PATIENCE)
                raise KeyboardInterrupt
            self.steps += large.is_set()
            if amount > 1 << 18:
                large.set()
                time.sleep(0.1)

    counter = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        converters.convert(src, dst, to="hf", workers=2, progress=counter)
    assert counter.steps < 24
    converters.convert(src, dst, to="hf")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
