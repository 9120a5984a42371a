"""Progress for people: bars on a terminal, a line every few seconds in a pipe or a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from internlm_zoo.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def open_progress(console: Console, *, quiet: bool) -> Iterator[Progress]:
    """The progress that suits where stderr goes."""
    if quiet:
        yield Progress()
    elif console.is_terminal:
        with _bars(console) as bars:
            yield _Bars(bars)
    else:
        yield _Lines(console)


def _bars(console: Console) -> Bars:
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


class _Bars(Progress):
    """One bar per active file."""

    def __init__(self, bars: Bars) -> None:
        self._rich = bars
        self._tasks: dict[str, TaskID] = {}

    def start(self, task: str, total: int | None, done: int = 0) -> None:
        self._tasks[task] = self._rich.add_task(task, total=total, completed=done)

    def advance(self, task: str, amount: int, source: str | None = None) -> None:
        self._rich.advance(self._tasks[task], amount)

    def finish(self, task: str) -> None:
        self._rich.remove_task(self._tasks.pop(task))

    def note(self, text: str) -> None:
        self._rich.console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Lines(Progress):
    """A total every few seconds: what a log wants."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._done = self._total = 0
        self._last = time.monotonic()

    def start(self, task: str, total: int | None, done: int = 0) -> None:
        with self._lock:
            self._total += total or 0
            self._done += done

    def advance(self, task: str, amount: int, source: str | None = None) -> None:
        with self._lock:
            self._done += amount
            now = time.monotonic()
            if now - self._last < _SECONDS_BETWEEN_LINES:
                return
            self._last = now
            done, total = self._done, self._total
        self.note(f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB")

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
