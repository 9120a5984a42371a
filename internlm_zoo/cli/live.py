"""A text on stdout while it comes, and notes meanwhile."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

from internlm_zoo.cli.shell import Shell
from internlm_zoo.plain import plain_lines
from internlm_zoo.progress import Progress

# What waits for more of it. A secret, or what a CI runner obeys, is in ASCII, and must not be told in halves.
_WORD, _LINE = re.compile(r"[!-~]*\Z"), re.compile(r"[^\n]*\Z")


@dataclass(frozen=True)
class Notes(Progress):
    """Notes alone: bars would stand in the text that is written meanwhile."""

    shell: Shell

    def note(self, text: str) -> None:
        self.shell.note(text)


class LiveText:
    """Word by word on a terminal, line by line elsewhere."""

    def __init__(self) -> None:
        self._waits = _WORD if sys.stdout.isatty() else _LINE
        self._rest, self.begun = "", False

    def add(self, piece: str) -> None:
        self.begun = True
        text = self._rest + piece
        found = self._waits.search(text)
        end = found.start() if found else len(text)
        self._rest = text[end:]
        if end:
            sys.stdout.write(plain_lines(text[:end]))
            sys.stdout.flush()

    def end(self) -> None:
        """What is left, and a line break."""
        sys.stdout.write(plain_lines(self._rest) + "\n")
        sys.stdout.flush()
        self._rest = ""
