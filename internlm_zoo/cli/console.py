"""The console of rich's that draws what the command line shows: texts of others as they are, never as markup,
emoji codes or links, and nothing in them that a terminal would obey.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from converters.errors import LINE
from internlm_zoo.cli import streams
from internlm_zoo.cli.flags import as_flags
from internlm_zoo.plain import plain, plain_lines

_PIPE_WIDTH = 20_000
"""Columns of what is no terminal: a table cut at 80 would lose what the next program needs."""


class Screen(Console):
    """A str is one line of others; a Text may have several, and colours of ours."""

    def __init__(self, file: Any, **options: Any) -> None:
        super().__init__(file=file, markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Whatever is drawn comes by here, the parts of tables too, before it is broken over lines."""
        if isinstance(renderable, str):
            renderable = plain(renderable)
        elif isinstance(renderable, Text):
            renderable = plain_text(renderable)
        return super().render(renderable, options)

    def print_line(self, text: str, style: str | None = None) -> None:
        """A sentence, not broken at the width of the screen. An error's has two texts of LINE characters."""
        self.print(plain(as_flags(text), 3 * LINE), style=style, soft_wrap=True)


def plain_text(text: Text) -> Text:
    """The same, without its colours if something in it had to be written out."""
    safe = plain_lines(text.plain)
    return (
        text if safe == text.plain else Text(safe, text.style, no_wrap=text.no_wrap, overflow=text.overflow)
    )


def stdout() -> Screen:
    return Screen(
        streams.CurrentStream(lambda: sys.stdout), width=None if sys.stdout.isatty() else _PIPE_WIDTH
    )


def stderr() -> Screen:
    return _stderr(sys.stderr.isatty())


@cache
def _stderr(is_terminal: bool) -> Screen:
    """One and the same: a display on it draws around what is told meanwhile."""
    return Screen(streams.CurrentStream(lambda: sys.stderr))
