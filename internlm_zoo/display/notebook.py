"""Progress in a notebook: one output, replaced while work goes on. Needs IPython, which a notebook has."""

from __future__ import annotations

import html
import io
import threading
import time
from typing import Any

from rich.console import Console

from internlm_zoo.display.drawing import Drawing
from internlm_zoo.display.progress_state import ProgressState
from internlm_zoo.plain import plain

_SECONDS_BETWEEN_DRAWINGS = 0.5  # each is a message to the browser
_WIDTH = 110  # characters; a notebook does not say how wide it is


class NotebookProgress(ProgressState):
    """Shows below the cell what a terminal would show; notes stay. One for each download."""

    def __init__(self) -> None:
        super().__init__()
        self._drawing = threading.Lock()
        self._notes: list[str] = []
        self._output: Any = None
        self._drawn = 0.0

    def advance(self, task: str, amount: int, source: str | None = None) -> None:
        super().advance(task, amount, source)
        if time.monotonic() - self._drawn > _SECONDS_BETWEEN_DRAWINGS:
            self._draw()

    def finish(self, task: str) -> None:
        super().finish(task)
        self._draw()

    def note(self, text: str) -> None:
        self._notes.append(text)
        self._draw()

    def _draw(self) -> None:
        from IPython.display import HTML, display

        with self._drawing:
            self._drawn = time.monotonic()
            content = HTML(self._page())
            if self._output is None:
                self._output = display(content, display_id=True)
            else:
                self._output.update(content)

    def _page(self) -> str:
        console = Console(file=io.StringIO(), record=True, width=_WIDTH, force_terminal=True)
        console.print(Drawing(self.view()))
        notes = "".join(f"{html.escape(plain(note))}\n" for note in self._notes)
        drawing = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
        return f"<pre>{notes}</pre>{drawing}" if notes else drawing
