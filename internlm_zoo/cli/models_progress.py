"""How many of many models have been tried: a bar on a terminal, a line for each elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from internlm_zoo.cli.console import stderr
from internlm_zoo.cli.shell import Shell
from internlm_zoo.progress import Progress

if TYPE_CHECKING:
    from internlm_zoo.cli.console import Screen


@contextmanager
def counting_models(shell: Shell) -> Iterator[Progress]:
    """Nothing with -q. Lines in a pipe or a log, and where a terminal cannot draw."""
    console = stderr()
    if shell.quiet:
        yield Progress()
    elif console.is_interactive and console.file.isatty():
        with _bar(console) as bar:
            yield _Drawn(shell, bar)
    else:
        yield _Counting(shell)


def _bar(console: Screen) -> Any:
    from rich import progress

    parts = progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn()
    return progress.Progress(
        *parts,
        progress.TimeElapsedColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


class _Counting(Progress):
    def __init__(self, shell: Shell) -> None:
        self._shell, self._lock, self._count, self._total = shell, threading.Lock(), 0, 0

    def plan(self, files: int, total: int | None) -> None:
        """files: models."""
        self._total = files

    def finish(self, task: str) -> None:
        with self._lock:
            self._count += 1
            self.tell(task)

    def note(self, text: str) -> None:
        self._shell.note(text)

    def tell(self, model: str) -> None:
        """Of one more; one alone is no number among others."""
        if self._total > 1:
            self.note(f"{self._count} of {self._total}: {model}")


class _Drawn(_Counting):
    """bar: of rich's, which is begun."""

    def __init__(self, shell: Shell, bar: Any) -> None:
        super().__init__(shell)
        self._bar, self._task = bar, bar.add_task("models", total=None)

    def tell(self, model: str) -> None:
        self._bar.update(self._task, completed=self._count, total=self._total, description=model)
