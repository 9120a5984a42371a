"""Progress for people: a display that is drawn anew on a terminal, a line every few seconds in a pipe or a
log."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr
from typing import TYPE_CHECKING, Any

from converters.system.threads import started
from internlm_zoo.cli.streams import write_unescaped
from internlm_zoo.progress import Progress

if TYPE_CHECKING:
    from internlm_zoo.cli.console import Screen
    from internlm_zoo.display.progress_state import ProgressState

_DRAWINGS_PER_SECOND = 8
_SECONDS_BETWEEN_LINES = 3.0


@contextmanager
def open_progress(
    console: Screen, *, quiet: bool, seconds: float = _SECONDS_BETWEEN_LINES
) -> Iterator[Progress]:
    """The progress that suits where the console goes. seconds: between two lines where it is no terminal."""
    if quiet:
        yield Progress()
        return
    state = _printing_state(console)
    # A pipe that takes colours (FORCE_COLOR) is no terminal yet.
    drawn = console.is_interactive and console.file.isatty()
    with _drawn(console, state) if drawn else _written(console, state, seconds):
        yield state


def _printing_state(console: Screen) -> ProgressState:
    from internlm_zoo.display.progress_state import ProgressState

    class PrintingState(ProgressState):
        def note(self, text: str) -> None:
            console.print_line(text)

    return PrintingState()


@contextmanager
def _drawn(console: Screen, state: ProgressState) -> Iterator[None]:
    from rich.live import Live

    from internlm_zoo.display.drawing import Drawing

    display = Live(
        get_renderable=lambda: Drawing(state.view()),
        console=console,
        refresh_per_second=_DRAWINGS_PER_SECOND,
        transient=True,
        redirect_stdout=False,  # which would obey the colours and links in what is written
        redirect_stderr=False,
    )
    lines: Any = _LinePrinter(console, sys.stderr)
    with display, closing(lines), redirect_stderr(lines):
        yield


class _LinePrinter:
    """Stands for stderr while a display is drawn: what libraries write goes above it, by whole lines."""

    def __init__(self, console: Screen, stream: Any) -> None:
        self._console, self._stream = console, stream
        self._unfinished = ""

    def write(self, text: str) -> int:
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            self._console.print_line(line)
        return len(text)

    def write_unescaped(self, text: str) -> None:
        write_unescaped(text, self._stream)

    def close(self) -> None:
        if self._unfinished:
            self.write("\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _written(console: Screen, state: ProgressState, seconds: float) -> Iterator[None]:
    """A thread writes, so that a log also shows that nothing moves."""
    from internlm_zoo.display.drawing import sentence

    ended = threading.Event()

    def write() -> None:
        while not ended.wait(seconds):
            view = state.view()
            if view.active:
                state.note(sentence(view))

    writer = threading.Thread(target=write, name="progress", daemon=True)
    writes = started(writer)
    try:
        yield
    finally:
        ended.set()
        if writes:
            writer.join()
