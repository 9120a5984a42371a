"""Files under way, and idle workers that take part in them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_TICK = 0.05


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
        for work in under_way:
            work.save()

    @contextmanager
    def working_on(self, work: SharedWork) -> Iterator[None]:
        """While the caller is at it, others may take part."""
        with self._lock:
            self._under_way.append(work)
        try:
            yield
        finally:
            with self._lock:
                self._under_way.remove(work)

    def take_part(self) -> None:
        """Do a part of whatever needs it, or wait a moment."""
        with self._lock:
            under_way = list(self._under_way)
        if not any(work.take_part() for work in under_way):
            self._stop.wait(_TICK)
