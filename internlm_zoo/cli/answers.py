"""How a command answers and how it fails: texts of others are plain wherever they are told, see
`internlm_zoo/plain.py`.
"""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internlm_zoo.cli.document import print_json
from internlm_zoo.cli.flags import as_flags
from internlm_zoo.cli.streams import unescaped, write_unescaped
from internlm_zoo.errors import ZooError
from internlm_zoo.plain import MOST, plain, plain_lines

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class CommandResult:
    """data: what `--json` prints. view: what a person sees on stdout: a path, which another program may read;
    lines; a text, whose line breaks are its own; or anything rich renders."""

    data: Any
    view: Path | list[str] | RenderableType | None = None
    exit_code: int = 0


def print_result(answer: CommandResult, *, as_json: bool) -> None:
    """The result, on stdout."""
    view = answer.view
    if as_json:
        print_json(answer.data)
    elif isinstance(view, Path):
        write_unescaped((plain(str(view)) if sys.stdout.isatty() else str(view)) + "\n")
    elif isinstance(view, list):
        sys.stdout.write("".join(f"{plain(line)}\n" for line in view))
    elif isinstance(view, str):
        sys.stdout.write(plain_lines(view) + "\n")
    elif view is not None:
        from internlm_zoo.cli.console import stdout

        stdout().print(view)


def print_note(text: str, style: str | None = None) -> None:
    """A sentence, on stderr."""
    from internlm_zoo.cli.console import stderr

    stderr().print_line(text, style)


def print_error(error: ZooError, *, as_json: bool, debug: bool) -> None:
    """What went wrong: as a document on stdout, if that is asked for and it takes one, else on stderr."""
    if debug:
        for part in traceback.format_exception(error):
            sys.stderr.write(plain_lines(part, MOST))
    if as_json and _print_error_document(error):
        return
    first, *more = error.lines
    for line in (f"error: {first}", *more):
        print_note(line, "bold red")
    if error.fix:
        print_note(f"  fix: {error.fix}")


def print_parse_error(error: Any) -> None:
    """What the parser of options says, in its own way; it quotes what was typed."""
    error.message = plain(error.message)
    with unescaped():
        error.show()


def _print_error_document(error: ZooError) -> bool:
    """Whether stdout takes it; else stderr is told."""
    texts = {"what": error.what, "where": error.where, "fix": error.fix}
    facts = {name: text and as_flags(text) for name, text in texts.items()} | {"exit_code": error.exit_code}
    try:
        print_json({"error": {"name": type(error).__name__, **facts}})
        sys.stdout.flush()
    except ZooError:
        return False
    return True
