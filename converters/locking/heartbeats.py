"""Signs of life of what this process holds, for machines that can see nothing else of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

_SECONDS = 15.0  # four in the SILENCE after which a holder counts as dead


class Heartbeats:
    """Calls what is to be called every _SECONDS, in a thread that is there while there is something."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: set[Callable[[], None]] = set()
        self._thread: threading.Thread | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_anew)

    def add(self, call: Callable[[], None]) -> None:
        with self._changed:
            self._calls.add(call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="signs of life", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # no more threads: this machine's processes need no signs
                    self._thread = None

    def drop(self, call: Callable[[], None]) -> None:
        with self._changed:
            self._calls.discard(call)
            if not self._calls:
                self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: not self._calls, _SECONDS):
                    self._thread = None
                    return
                calls = tuple(self._calls)
            for call in calls:
                call()

    def _begin_anew(self) -> None:
        """In a child process, which has no threads but one, and holds nothing."""
        self._changed, self._calls, self._thread = threading.Condition(), set(), None
