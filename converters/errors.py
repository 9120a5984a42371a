"""The errors of both packages: what was wrong, where, and the way out, with the exit code a shell sees.

They live here because `converters` imports without `internlm_zoo`; `internlm_zoo.errors` adds those that
need a network or a hub. A mistake of the user's is one of these, never a traceback.
"""

from __future__ import annotations

from pathlib import Path

from converters.redaction import redacted

BACKTICK = r"\x60"
LINE, LINES = 2000, 200
"""Characters of a line, and lines, of one text of an error: what it quotes may be as long as its input."""


class ZooError(Exception):
    """Something the user can act on.

    what: one sentence saying what is wrong. where: the file, tensor, field or host it is about.
    fix: what to do next. exit_code: what the command line exits with. None of the texts holds a secret, or
    is longer than LINES of LINE characters.
    """

    exit_code = 1

    def __init__(self, what: str, where: str | Path | None = None, fix: str | None = None) -> None:
        self.what = _bounded(redacted(what))
        super().__init__(self.what)
        self.where = None if where is None else _bounded(redacted(str(where)))
        self.fix = None if fix is None else _bounded(redacted(fix))

    def __str__(self) -> str:
        return self.what if self.where is None else f"{self.what} ({self.where})"

    @property
    def lines(self) -> tuple[str, ...]:
        """What a person is told, each a line of its own."""
        return (str(self),)


def parameter(name: str, value: object) -> str:
    """How a message says that a parameter is given a value, as Python writes it; the command line puts its
    flag there."""
    return f"`{name}={repr(value).replace('`', BACKTICK)}`"


def _bounded(text: str) -> str:
    lines = text.split("\n")
    if len(lines) > LINES:
        lines[LINES:] = [f"... and {len(lines) - LINES} lines more"]
    return "\n".join(map(_shortened, lines))


def _shortened(line: str) -> str:
    """Its ends: they say what it is, and where it is wrong."""
    if len(line) <= LINE:
        return line
    left_out = len(line) - LINE
    return f"{line[: LINE // 2]}... [{left_out} characters] ...{line[-LINE // 2 :]}"


class UsageError(ZooError):
    """The request itself is wrong: an option, a name, a target that is not empty."""

    exit_code = 2


class MissingFactError(UsageError):
    """A fact that nobody states. fact: its name."""

    def __init__(self, fact: str, what: str, where: str | Path | None = None, fix: str | None = None) -> None:
        super().__init__(what, where, fix)
        self.fact = fact


class PartlyDoneError(ZooError):
    """Some of the work is done and kept; the rest failed."""

    exit_code = 3


class NotFoundError(ZooError):
    """A model, release, file or tensor that is not there."""

    exit_code = 4


class AccessError(ZooError):
    """Something is there and is not given to this user: by a hub, or by the system."""

    exit_code = 4


class DiskError(ZooError):
    """The disk, or the server behind it, fails at what it was asked, or keeps what is there to itself: no
    other source helps."""

    exit_code = 4


class IntegrityError(ZooError):
    """Bytes that are not what they should be, or input that would do harm."""

    exit_code = 6


class UnsupportedError(ZooError):
    """Something understood but not possible; names the field that makes it so."""

    exit_code = 7


class NoSpaceError(ZooError):
    """The disk is full, or would be."""

    exit_code = 8
