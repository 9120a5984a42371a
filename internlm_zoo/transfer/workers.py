"""Several transfers at once, on threads that a Ctrl-C does not have to wait for; idle ones take part in the
files of others."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Protocol, TypeVar

from converters.system.open_files import spare
from converters.system.threads import started
from internlm_zoo.errors import Cancelled

T = TypeVar("T")

# The partial file, its journal, its owner's lock, the lock of its content, whoever digests it, a connection.
_FILES_OF_EACH = 7
# How long an interrupted run gives its threads to write their journals; a hub that is silent holds nobody up.
_LAST_SECONDS = 0.5
# Windows notices a Ctrl-C only between two waits; a caller's wish to stop is looked at as often.
_POLL_SECONDS = 0.2
# Until an idle worker looks for work again.
_TICK = 0.05


def work(
    jobs: Sequence[Callable[[], T]],
    workers: int,
    stop: threading.Event,
    cancel: threading.Event | None = None,
    when_idle: Callable[[], None] | None = None,
) -> list[T]:
    """What the jobs return, in their order. The first error, or an interrupt, sets `stop` and is raised once
    the other jobs have noticed. cancel: the caller's; once it is set, Cancelled is raised. when_idle: what a
    worker does, again and again, while others still have jobs. There are fewer workers where fewer files may
    be open."""
    waiting: queue.SimpleQueue[tuple[int, Callable[[], T]]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, T | BaseException]] = queue.SimpleQueue()
    for entry in enumerate(jobs):
        waiting.put(entry)
    count = max(1, min(workers, spare() // _FILES_OF_EACH))
    threads = [
        threading.Thread(
            target=_serve, args=(waiting, done, stop, when_idle), name=f"transfer-{number}", daemon=True
        )
        for number in range(count if when_idle else min(count, len(jobs)))
    ]
    threads = list(takewhile(started, threads))
    if not threads:
        return list(_one_by_one(jobs, cancel))
    results: dict[int, T] = {}
    try:
        while len(results) < len(jobs):
            index, outcome = _next(done, cancel)
            if isinstance(outcome, BaseException):
                raise outcome
            results[index] = outcome
    finally:
        stop.set()
        deadline = time.monotonic() + _LAST_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    return [results[index] for index in range(len(jobs))]


def raise_if_cancelled(cancel: threading.Event | None) -> None:
    """Raises Cancelled once the event is set."""
    if cancel is not None and cancel.is_set():
        raise Cancelled("cancelled; what arrived is kept", fix="run it again: it goes on where it stood")


def _next(
    done: queue.SimpleQueue[tuple[int, T | BaseException]], cancel: threading.Event | None
) -> tuple[int, T | BaseException]:
    while True:
        raise_if_cancelled(cancel)
        try:
            return done.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue


def _serve(
    waiting: queue.SimpleQueue[tuple[int, Callable[[], T]]],
    done: queue.SimpleQueue[tuple[int, T | BaseException]],
    stop: threading.Event,
    when_idle: Callable[[], None] | None,
) -> None:
    while not stop.is_set():
        try:
            index, job = waiting.get_nowait()
        except queue.Empty:
            if when_idle is None:
                return
            when_idle()
            continue
        try:
            done.put((index, job()))
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
            done.put((index, error))
            return


def _one_by_one(jobs: Sequence[Callable[[], T]], cancel: threading.Event | None) -> Iterator[T]:
    """In this thread, where the system gives no other."""
    for job in jobs:
        raise_if_cancelled(cancel)
        yield job()


class Stopped(Exception):
    """The caller asked to stop; what arrived is kept for the next run."""


class SharedWork(Protocol):
    def take_part(self) -> bool:
        """Do a part of it; False if there is none to do now."""

    def save(self) -> None:
        """Have the next run find what is done of it."""


class WorkSharing:
    """stop: ends every wait. Thread-safe. As a context manager, saves in the end what is left under way."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._under_way: list[SharedWork] = []

    def __enter__(self) -> WorkSharing:
        return self

    def __exit__(self, *exception: object) -> None:
        """What is still under way, in threads that wait for a hub, may never come to its own end."""
        with self._lock:
            under_way = list(self._under_way)
        for shared in under_way:
            shared.save()

    @contextmanager
    def working_on(self, shared: SharedWork) -> Iterator[None]:
        """While the caller is at it, others may take part."""
        with self._lock:
            self._under_way.append(shared)
        try:
            yield
        finally:
            with self._lock:
                self._under_way.remove(shared)

    def take_part(self) -> None:
        """Do a part of whatever needs it, or wait a moment."""
        with self._lock:
            under_way = list(self._under_way)
        if not any(shared.take_part() for shared in under_way):
            self._stop.wait(_TICK)
