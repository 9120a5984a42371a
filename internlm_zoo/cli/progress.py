"""Progress for people: a display that is drawn anew on a terminal, a line every few seconds in a pipe or a
log."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from converters.threads import started
from internlm_zoo.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

    from internlm_zoo.display.tally import Tally

_DRAWINGS_PER_SECOND = 8
_SECONDS_BETWEEN_LINES = 3.0


@contextmanager
def open_progress(
    console: Console, *, quiet: bool, seconds: float = _SECONDS_BETWEEN_LINES
) -> Iterator[Progress]:
    """The progress that suits where the console goes. seconds: between two lines where it is no terminal."""
    if quiet:
        yield Progress()
        return
    tally = _tally(console)
    # A pipe that takes colours (FORCE_COLOR) is no terminal yet.
    drawn = console.is_interactive and console.file.isatty()
    with _drawn(console, tally) if drawn else _written(console, tally, seconds):
        yield tally


def _tally(console: Console) -> Tally:
    from internlm_zoo.display.tally import Tally

    class Told(Tally):
        def note(self, text: str) -> None:
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    return Told()


@contextmanager
def _drawn(console: Console, tally: Tally) -> Iterator[None]:
    from rich.live import Live

    from internlm_zoo.display.drawing import Drawing

    with Live(
        get_renderable=lambda: Drawing(tally.view()),
        console=console,
        refresh_per_second=_DRAWINGS_PER_SECOND,
        transient=True,
    ):
        yield


@contextmanager
def _written(console: Console, tally: Tally, seconds: float) -> Iterator[None]:
    """A thread writes, so that a log also shows that nothing moves."""
    from internlm_zoo.display.drawing import sentence

    over = threading.Event()

    def write() -> None:
        while not over.wait(seconds):
            view = tally.view()
            if view.active:
                tally.note(sentence(view))

    writer = threading.Thread(target=write, name="progress", daemon=True)
    writes = started(writer)
    try:
        yield
    finally:
        over.set()
        if writes:
            writer.join()
