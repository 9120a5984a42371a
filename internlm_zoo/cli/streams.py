"""stdout and stderr as the command line uses them: no secret passes, nor what a terminal would obey if it is
not ours; no character is too much for them, and one that takes nothing is a sentence, not a traceback.

What a library prints, a warning and a traceback go this way too. Colours and what moves the cursor come
through `unescaped`, as of a display whose texts are plain already. A character that an encoding lacks is
drawn with ASCII where that is as good, else written as Python escapes it. A result that stdout does not take
is an error; what is only told, on stderr, is lost where nobody listens: the work is worth more.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO

from converters.redaction import redacted
from internlm_zoo.errors import AccessError, NoSpaceError, ZooError
from internlm_zoo.plain import escaped

_BYTES = "surrogateescape"
_PLAIN = "internlm-zoo: plain"
_SIGNS = {
    **dict.fromkeys("─╌┄╴╶–—‐‑·", "-"),
    **dict.fromkeys("━═", "="),
    **dict.fromkeys("│┃║╵╷¦", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╯╰╔╗╚╝╠╣╦╩╬┏┓┗┛┡┩╇†✓✔", "+"),
    **dict.fromkeys("✗✘×", "x"),
    **dict.fromkeys("•●⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "*"),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”", '"'),
    "\u00a0": " ",
    "…": "...",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
}
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class ReaderGone(Exception):
    """The reader of stdout has left, as `head` does when it has enough."""


class GuardedStream:
    """A text stream in front of another; None: of one that was closed before the program began. It has no
    `buffer`: bytes would pass by the redactor."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._broken: OSError | None = None

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str | None:
        return getattr(self._stream, "errors", None)

    def write(self, text: str) -> int:
        self.write_unescaped(escaped(text))
        return len(text)

    def write_unescaped(self, text: str) -> None:
        """Write what may be obeyed: our own colours, and a path that another program is to read."""
        clean = redacted(text)
        try:
            self._whole().write(_encodable(clean, self.encoding, self.errors))
        except OSError as error:
            self._lost(error)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            if self._stream is not None and self._broken is None:
                self._stream.flush()
        except OSError as error:
            self._lost(error)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def writable(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self._stream, name)

    def _whole(self) -> TextIO:
        if self._stream is None or self._broken is not None:
            raise self._broken or OSError(errno.EBADF, "it is closed")
        return self._stream

    def _lost(self, error: OSError) -> None:
        """Nothing more goes there: what is still in its buffer would fail again at the interpreter's end."""
        first, self._broken = self._broken is None, error
        if first and self._stream is not None:
            with suppress(OSError), Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


class ResultStream(GuardedStream):
    """stdout, where a loss is an error. Raises ReaderGone, NoSpaceError, AccessError."""

    def _lost(self, error: OSError) -> None:
        super()._lost(error)
        if isinstance(error, BrokenPipeError):
            raise ReaderGone from error
        raise output_error(error) from error


class CurrentStream:
    """An outlet for what is ours. stream: gives the outlet, which may be another one at each moment."""

    def __init__(self, stream: Callable[[], Any]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        write_unescaped(text, self._stream())
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream(), name)


def write_unescaped(text: str, stream: Any = None) -> None:
    """Write it where it is not escaped. stream: an outlet; default: stdout."""
    stream = stream or sys.stdout
    getattr(stream, "write_unescaped", stream.write)(text)


@contextmanager
def unescaped() -> Iterator[None]:
    """What is written meanwhile is ours, as a help text."""
    out, err = sys.stdout, sys.stderr
    with redirect_stdout(CurrentStream(lambda: out)), redirect_stderr(CurrentStream(lambda: err)):
        yield


def output_error(error: OSError) -> ZooError:
    """What there is to say where stdout does not take the result."""
    kind = NoSpaceError if error.errno in _FULL else AccessError
    what = f"the result cannot be written to stdout: {error.strerror}"
    return kind(what, fix="what was done is kept: send the output elsewhere, and run it again")


@contextmanager
def guarded_streams() -> Iterator[None]:
    """sys.stdout and sys.stderr are ours for a while."""
    with redirect_stdout(ResultStream(sys.stdout)), redirect_stderr(GuardedStream(sys.stderr)):
        yield


def reserve_descriptors() -> None:
    """For the process as a whole: bytes of file names that are no text go out as they came, and no file that
    is opened takes the place of a closed stdin, stdout or stderr, into which libraries may write."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_BYTES)
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _encodable(text: str, encoding: str, errors: str | None) -> str:
    """The text in characters that a stream can write."""
    try:
        text.encode(encoding, _BYTES if errors == _BYTES else "strict")
    except UnicodeEncodeError:
        return text.encode(encoding, _PLAIN).decode(encoding)
    return text


def _plain(error: UnicodeError) -> tuple[str, int]:
    """The characters that an encoding lacks, in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_SIGNS.get(character) or _escaped(character) for character in lacking), error.end


def _escaped(character: str) -> str:
    """A byte that was no text as that byte."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("ascii", "backslashreplace").decode()


codecs.register_error(_PLAIN, _plain)
