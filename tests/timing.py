"""Time for tests: how long they wait at most, and a clock that stands still until everybody sleeps."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

_SCALE = float(os.environ.get("INTERNLM_ZOO_TEST_PATIENCE", "1"))
PATIENCE = 300.0 * _SCALE
"""Seconds after which what a test waits for will not happen any more, and of silence that the product is told
to bear. Nothing takes so long on any machine: it ends a test that hangs, and is no statement about speed."""


_measuring = threading.Lock()


def short_silence(seconds: float = 0.6) -> float:
    """Of silence that the product is told to bear where a test waits until that is over: so much on an idle
    machine, on a busy one more, by how many want each core (up to 8) and by what a moment of work takes.
    No honest answer is so late."""
    with _measuring:  # one thread at a time, not all of a test against each other
        began, spent = time.monotonic(), time.thread_time() + 0.05
        while time.thread_time() < spent:
            pass
        wanted = min(8.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        busy = max(1.0, wanted, (time.monotonic() - began) / 0.05)
    return seconds * _SCALE * busy


def silences(seconds: float) -> Iterator[float]:
    """Of silence that the product is told to bear where an honest answer is to be heard after the silent one:
    one try after the other, each four times as long. On a machine that is busy enough even honest answers are
    late; who is not heard under the longest either was not waited for."""
    yield from (short_silence(seconds) * 4**tries for tries in range(4))


def soon(_: object, failures: int) -> float:
    """In place of `RetryPolicy.pause`: a hub is asked again almost at once, but another one before it."""
    return 0.05 * 2.0 ** (failures - 1)


def wait_for(what: Callable[[], object], missing: str = "it waited in vain") -> None:
    """Look again and again until it is so."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, missing
        time.sleep(0.005)


class VirtualTime:
    """A clock and a sleep for some threads: it moves when all of them sleep, to the earliest moment at which
    one wakes up. So a second is a second, whatever the machine does."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._threads = 0
        self._sleepers: list[float] = []
        self._changed = threading.Condition()

    def clock(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        with self._changed:
            until = self._now + seconds
            self._sleepers.append(until)
            self._move()
            self._changed.wait_for(lambda: self._now >= until)
            self._sleepers.remove(until)

    def run(self, *jobs: Callable[[], object]) -> None:
        """Do all of them, a thread each."""
        self._threads = len(jobs)
        with ThreadPoolExecutor(len(jobs)) as pool:
            for job in [pool.submit(self._do, job) for job in jobs]:
                job.result()

    def _do(self, job: Callable[[], object]) -> None:
        try:
            job()
        finally:
            with self._changed:
                self._threads -= 1
                self._move()

    def _move(self) -> None:
        """Who wakes up now is among the sleepers until it does, and holds the time."""
        if self._sleepers and len(self._sleepers) == self._threads:
            self._now = min(self._sleepers)
            self._changed.notify_all()
