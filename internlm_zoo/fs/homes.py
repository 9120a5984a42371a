"""Where an account's own files lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from internlm_zoo.errors import UsageError

# The home of an account that has none: nothing is there, and nothing can be made there, not by root either.
NOWHERE = Path(os.devnull).absolute() / "home"


def home_of(environ: Mapping[str, str]) -> Path:
    """This account's home; NOWHERE if it has none: HOME is not set, and no entry names one."""
    if environ.get("HOME"):
        return Path(environ["HOME"])
    try:
        return Path.home()
    except (RuntimeError, KeyError):
        return NOWHERE


def require_here() -> None:
    """Raises UsageError where the directory that the command runs in was removed: no relative path leads
    anywhere, and libraries crash (oneMKL, as torch is imported)."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        fix = "change to one that is there"
        raise UsageError("the directory that this runs in does not exist any more", fix=fix) from error


def path_of(text: str, environ: Mapping[str, str]) -> Path:
    """A path as a person writes it, with `~`. Raises UsageError for what is none."""
    if "\0" in text:
        raise UsageError("a path holds a zero byte", repr(text), "name another one")
    if text == "~" or text.startswith("~/"):
        return home_of(environ) / text[2:]
    return Path(os.path.expanduser(text))  # noqa: PTH111 - which leaves the name of an unknown user as it is
