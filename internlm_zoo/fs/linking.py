"""The same bytes under a second name, for as little disk as the file system allows.

A reflink shares blocks until one side is written to, so neither can change the other. A hard link is one file
with two names. FICLONE is in Linux's `linux/fs.h`, `clonefile(2)` in macOS's `sys/clonefile.h`.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Literal

How = Literal["reflink", "hard link", "copy"]

_FICLONE = 0x40049409


def duplicate(source: Path, target: Path, *, hard: bool) -> How:
    """Give a file a second name, where nothing lies yet. hard: whether one file with two names will do.

    Raises OSError if there is no source, or no room for a copy.
    """
    if _reflink(source, target):
        return "reflink"
    if hard and _hard_link(source, target):
        return "hard link"
    shutil.copyfile(source, target)
    return "copy"


def _hard_link(source: Path, target: Path) -> bool:
    try:
        target.hardlink_to(source)
    except (OSError, NotImplementedError):  # another disk, or a file system that has none
        return False
    return True


def _reflink(source: Path, target: Path) -> bool:
    if sys.platform == "linux":
        return _ficlone(source, target)
    elif sys.platform == "darwin":
        return _clonefile(source, target)
    else:
        return False


def _ficlone(source: Path, target: Path) -> bool:
    import fcntl

    with source.open("rb") as original, target.open("xb") as clone:
        try:
            fcntl.ioctl(clone.fileno(), _FICLONE, original.fileno())
        except OSError:  # another disk, or a file system that has none
            target.unlink()
            return False
    return True


def _clonefile(source: Path, target: Path) -> bool:
    import ctypes

    system = ctypes.CDLL(None, use_errno=True)
    return bool(system.clonefile(os.fsencode(source), os.fsencode(target), 0) == 0)
