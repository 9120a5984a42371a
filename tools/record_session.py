"""Runs commands as a person would see them and draws the terminal as an SVG, for the README.

    python tools/record_session.py docs/images/demo.svg 'internlm-zoo demo'

Nothing is edited: what the picture shows is what the commands printed.
"""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 118


def main(target: str, *commands: str) -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for command in commands:
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        console.print(Text.from_ansi(_run(command)))
    Path(target).write_text(console.export_svg(title="internlm-zoo"), encoding="utf-8")


def _run(command: str) -> str:
    """Its output on a terminal of its own; bars that were wiped away are not part of it."""
    ours, theirs = pty.openpty()
    environ = {
        **os.environ,
        "COLUMNS": str(COLUMNS),
        "LINES": "60",
        "TERM": "xterm-256color",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    with subprocess.Popen(
        command, shell=True, stdout=theirs, stderr=subprocess.DEVNULL, env=environ
    ) as child:
        os.close(theirs)
        printed = b"".join(iter(lambda: _read(ours), b""))
    if child.returncode:
        raise SystemExit(f"{command} exited {child.returncode}")
    return printed.decode().replace("\r\n", "\n").rstrip("\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # Linux reports the end of a terminal whose other side is closed as an error
        return b""


if __name__ == "__main__":
    main(*sys.argv[1:])
