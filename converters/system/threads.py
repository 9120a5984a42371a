"""Threads as far as the system gives any: a limit (RLIMIT_NPROC, a container's pids.max) makes it slower, and
is no fault."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def started(thread: threading.Thread) -> bool:
    """Start it; False if the system gives no more."""
    try:
        thread.start()
    except RuntimeError:  # "can't start new thread"
        return False
    return True


def available(count: int) -> bool:
    """Whether the system gives as many threads now."""
    over = threading.Event()
    threads = [threading.Thread(target=over.wait, daemon=True) for _ in range(count)]
    begun = list(takewhile(started, threads))
    over.set()
    for thread in begun:
        thread.join()
    return len(begun) == count


def in_threads(
    work: Callable[[T], R], items: Sequence[T], workers: int, stop: Callable[[], None] = lambda: None
) -> list[R]:
    """`work` on every item, results in order; the caller's thread is one of the workers.

    The first error, or an interrupt, leaves what has not begun, and is raised once the others are done with
    what they have. stop: has that be soon.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(items)):
        waiting.put(number)
    results: dict[int, R] = {}
    failed: list[BaseException] = []

    def serve() -> None:
        while not failed:
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                results[number] = work(items[number])
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                failed.append(error)

    helpers: list[threading.Thread] = []
    try:
        for _ in range(min(workers, len(items)) - 1):
            helper = threading.Thread(target=serve)
            if not started(helper):
                break
            helpers.append(helper)
        serve()
    except BaseException as error:  # an interrupt between two items
        failed.append(error)
        raise
    finally:
        if failed:
            stop()
        for helper in helpers:
            helper.join()
    if failed:
        raise failed[0]
    return [results[number] for number in range(len(items))]


def alongside(work: Callable[[], R]) -> Callable[[], R]:
    """Begin `work` in a thread of its own; what is returned waits for it and gives what it gave, or raised.
    Where there is no thread it is done when it is asked for."""
    from concurrent.futures import Future  # which commands that start no thread need not wait for

    outcome: Future[R] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that asks
            outcome.set_exception(error)

    return outcome.result if started(threading.Thread(target=run, daemon=True)) else work
