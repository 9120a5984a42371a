"""What a long run tells of itself. `internlm_zoo.progress.Progress` is one of these."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """start names a task and its total in bytes, advance says how many more are done, finish ends it."""

    def start(self, task: str, total: int | None, done: int = 0) -> None: ...
    def advance(self, task: str, amount: int) -> None: ...
    def finish(self, task: str) -> None: ...


class Silence:
    """Tells nobody."""

    def start(self, task: str, total: int | None, done: int = 0) -> None: ...
    def advance(self, task: str, amount: int) -> None: ...
    def finish(self, task: str) -> None: ...
