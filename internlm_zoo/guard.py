"""A file that one process at a time holds: by a lock of the system's, which goes with its holder.

Where the file system has no locks, or its lock server does not answer, a second file stands in for the lock.
It names its holder, so that the one of a dead process is recognised.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from converters.filesystem import is_unknown
from internlm_zoo.ownership import lives, machine

_PAUSE = 0.05
_HELD = frozenset({errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK})


def pause() -> None:
    """How a holder is waited for."""
    time.sleep(_PAUSE)


@contextmanager
def held(path: Path, wait: Callable[[], None] = pause) -> Iterator[None]:
    """Nobody else who asks holds the file meanwhile; its folder is made if it is not there. The file stays,
    and may be removed by its holder.

    wait: called as long as somebody else holds it; what it raises ends the waiting. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while (release := _taken(path)) is None:
        wait()
    try:
        yield
    finally:
        release()


def _taken(path: Path) -> Callable[[], None] | None:
    """What gives it back; None if somebody else holds it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(file)
    except OSError as error:
        os.close(file)
        if error.errno in _HELD:
            return None
        if is_unknown(error) or error.errno == errno.ENOLCK:
            return _named(path)
        raise
    if not _is_still(file, path):
        os.close(file)
        return None
    # Closing gives it back, also where unlocking is refused (CIFS).
    return lambda: os.close(file)


def _is_still(file: int, path: Path) -> bool:
    """Whether it has its name: the one who held it may have removed it meanwhile."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(file), path.stat())
    return False


def _named(path: Path) -> Callable[[], None] | None:
    """The same by a file that says who holds it."""
    holder = path.with_name(f"{path.name}.holder")
    try:
        file = os.open(holder, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        if _is_dead(holder):
            holder.unlink(missing_ok=True)
        return None
    with os.fdopen(file, "w", encoding="ascii") as text:
        text.write(f"{machine()} {os.getpid()}")
    return lambda: holder.unlink(missing_ok=True)


def _is_dead(holder: Path) -> bool:
    """Whether it names a process of this machine that is no more."""
    try:
        where, process = holder.read_text(encoding="ascii").split()
    except (OSError, ValueError):  # gone by now, or about to be written
        return False
    return where == machine() and not lives(int(process))


def _lock(file: int) -> None:
    """Raises OSError, also if somebody else has it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
