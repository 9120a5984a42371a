"""Text that a terminal, a CI runner or an eye takes for more than text, and what shows that none did."""

from __future__ import annotations

import io
import re
import sys
import unicodedata

import pytest

from internlm_zoo.cli.shell import run

SEEN = "[bold]MARK[/bold]:smile:[link=evil.test]x[/link]"
"""What of it must be seen as it stands."""
OBEYED = (
    "\x1b[2J\x1b[8m\x1b]8;;http://evil.test\x1b\\x\x1b]52;c;aGk=\x07\x9b31m\x90q\x7f\x08\r"  # a terminal
    "\u202e\u2066\u200e\u061c\u200b\ufeff\xad\U000e0041\u2028\u2029\u2060"  # an eye
    "\n::set-output name=a::b\n##[error]x"  # a CI runner
)
HOSTILE = OBEYED + SEEN
"""Without NUL, which neither names of files nor arguments have."""

_OURS = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[lh]|[0-9]*[AK])|\r")
_COMMAND = re.compile(r"(?m)^\s*::[\w-]+[^:\n]*::|##\[|##vso\[")


class Stream(io.TextIOWrapper):
    """stdout or stderr, of a terminal or a pipe."""

    def __init__(self, terminal: bool) -> None:
        self._written = io.BytesIO()
        super().__init__(self._written, "utf-8", "strict" if terminal else "surrogateescape")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def text(self) -> str:
        self.flush()
        return self._written.getvalue().decode("utf-8", "surrogateescape")


def shown(
    monkeypatch: pytest.MonkeyPatch, *args: str, terminal: bool, width: int = 30_000
) -> tuple[int, str, str]:
    """The exit code, and what came on stdout and stderr: nothing in it that anybody obeys."""
    out, err = Stream(terminal), Stream(terminal)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", out)
        patched.setattr(sys, "stderr", err)
        patched.setenv("COLUMNS", str(width))
        patched.setenv("TERM", "xterm-256color")
        code = run(list(args))
    for stream in (out, err):
        assert not obeyed(stream.text, terminal), (args, obeyed(stream.text, terminal), stream.text)
        if width > len(HOSTILE):
            assert_whole(stream.text)
    return code, out.text, err.text


def obeyed(text: str, terminal: bool = False) -> set[str]:
    """Everything in it that is not just seen, but our own colours on a terminal."""
    text = _OURS.sub("", text) if terminal else text
    return {char for char in text if char != "\n" and _is_obeyed(char)} | set(_COMMAND.findall(text))


def assert_whole(text: str) -> None:
    """No markup, emoji code or link of it was taken for one."""
    assert text.count("MARK") == text.count(SEEN), text


def _is_obeyed(char: str) -> bool:
    return unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
