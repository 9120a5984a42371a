"""What a long run tells of itself. `internlm_zoo.progress.Progress` is one of these."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """start names a task and its total in bytes, advance says how many more are done, finish ends it; note
    is a sentence for a person."""

    def start(self, task: str, total: int | None, done: int = 0) -> None: ...
    def advance(self, task: str, amount: int) -> None: ...
    def finish(self, task: str) -> None: ...
    def note(self, text: str) -> None: ...


class NullProgress:
    """Tells nobody."""

    def start(self, task: str, total: int | None, done: int = 0) -> None: ...
    def advance(self, task: str, amount: int) -> None: ...
    def finish(self, task: str) -> None: ...
    def note(self, text: str) -> None: ...


def byte_count(size: int) -> str:
    """A size in decimal units, as disks and hubs count them."""
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"
