"""One file under way, as all its connections share it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from internlm_zoo.progress import Progress
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.partial import Partial
from internlm_zoo.transfer.scheduler import EndpointState
from internlm_zoo.transfer.workers import Stopped


@dataclass(eq=False)
class Run:
    """stop: the caller's event that ends it; over: its owner has left it. notes: what went wrong, a sentence
    each."""

    partial: Partial
    endpoints: Sequence[EndpointState]
    client: Client
    stop: threading.Event
    progress: Progress
    over: bool = False
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._shown = self.partial.blocks.here

    @property
    def path(self) -> str:
        return self.partial.wanted.path

    def say(self, note: str) -> None:
        self.notes.append(note)
        self.progress.note(note)

    def check(self) -> None:
        """Raises Stopped once nobody wants the file any more."""
        if self.stop.is_set() or self.over:
            raise Stopped

    def show(self, source: str | None = None) -> None:
        """Tell how far it is; not always further, because blocks can turn out to be wrong."""
        with self.partial.changed:
            here = self.partial.blocks.here
            amount, self._shown = here - self._shown, here
        if amount:
            self.progress.advance(self.path, amount, source)

    def start_over(self) -> None:
        self.partial.reset()
        self.show()
