"""What a file system can tell of a file: who may lock it, whether it still has its name, what time it is."""

from __future__ import annotations

import os
import secrets
import sys
import time
from pathlib import Path

BINARY = getattr(os, "O_BINARY", 0)  # Windows turns line ends without it

if sys.platform == "win32":
    import msvcrt

    def lock(file: int, *, shared: bool = False) -> bool | None:
        """Of a byte far behind the text, which others must be able to read."""
        os.lseek(file, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(file, 0, os.SEEK_SET)
        return True
else:
    import fcntl

    def lock(file: int, *, shared: bool = False) -> bool | None:
        """Take the lock of an open file, which lasts until it is closed. False: somebody has it; None: there
        are no locks here."""
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True


def means_something(path: Path) -> bool:
    """Whether the lock that we have of a file is refused to others, as it should be."""
    other = os.open(path, os.O_RDONLY | BINARY)
    try:
        return lock(other, shared=True) is False
    finally:
        os.close(other)


def is_at(path: Path, file: int) -> bool:
    """Whether the open file still has that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def is_gone(path: Path) -> bool:
    """Remove a file, where that is allowed."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def rewrite(file: int, text: bytes) -> None:
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, text)
    os.ftruncate(file, len(text))


def now(folder: Path) -> float:
    """Seconds since 1970 by the clock that dates the files of a folder: the file server's, if it has one."""
    probe = folder / f".{secrets.token_hex(8)}.now"
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return probe.stat().st_mtime
    except OSError:  # not ours to write to: nothing better is known
        return time.time()
    finally:
        is_gone(probe)
