"""How long work tells how far it is. The base class is silent; terminals and callers bring their own."""

from __future__ import annotations


class Progress:
    """Called from several threads at once. task: a file or step name; amounts are bytes. What a method of a
    subclass raises ends the work and comes out of it."""

    def plan(self, files: int, total: int | None) -> None:
        """So many files are to come, of `total` bytes if known, what is here already included. Called before
        any of them starts, and again where another set of files takes their place."""

    def start(self, task: str, total: int | None, done: int = 0) -> None:
        """Work on `task` begins; `total` bytes if known, `done` of them there already."""

    def advance(self, task: str, amount: int, source: str | None = None) -> None:
        """`amount` more bytes of `task` are done, or have to be done again if it is negative. source: the hub
        that delivered them."""

    def finish(self, task: str) -> None:
        """`task` is over, well or badly."""

    def note(self, text: str) -> None:
        """Something a person should know, in one sentence."""
