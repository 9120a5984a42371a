"""Several transfers at once, on threads that a Ctrl-C does not have to wait for."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

# How long an interrupted run gives its threads to write their journals; a hub that is silent holds nobody up.
_FAREWELL_SECONDS = 2.0
# Windows notices a Ctrl-C only between two waits.
_PATIENCE_SECONDS = 0.5


def work(jobs: Sequence[Callable[[], T]], workers: int, stop: threading.Event) -> list[T]:
    """What the jobs return, in their order. The first error, or an interrupt, sets `stop` and is raised
    once the other jobs have noticed."""
    waiting: queue.SimpleQueue[tuple[int, Callable[[], T]]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, T | BaseException]] = queue.SimpleQueue()
    for entry in enumerate(jobs):
        waiting.put(entry)
    threads = [
        threading.Thread(target=_serve, args=(waiting, done, stop), name=f"transfer-{number}", daemon=True)
        for number in range(min(max(1, workers), len(jobs)))
    ]
    for thread in threads:
        thread.start()
    results: dict[int, T] = {}
    try:
        while len(results) < len(jobs):
            index, outcome = _next(done)
            if isinstance(outcome, BaseException):
                raise outcome
            results[index] = outcome
    finally:
        stop.set()
        deadline = time.monotonic() + _FAREWELL_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    return [results[index] for index in range(len(jobs))]


def _next(done: queue.SimpleQueue[tuple[int, T | BaseException]]) -> tuple[int, T | BaseException]:
    while True:
        try:
            return done.get(timeout=_PATIENCE_SECONDS)
        except queue.Empty:
            continue


def _serve(
    waiting: queue.SimpleQueue[tuple[int, Callable[[], T]]],
    done: queue.SimpleQueue[tuple[int, T | BaseException]],
    stop: threading.Event,
) -> None:
    while not stop.is_set():
        try:
            index, job = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            done.put((index, job()))
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
            done.put((index, error))
            return
