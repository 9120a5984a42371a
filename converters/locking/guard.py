"""A file that is held by one process at a time, and says by which.

Its lock (flock) ends with its holder, however that ends, and holds between containers and accounts. Where the
file system has none, or grants it to everybody, what the file says decides: whether that process still runs
(holder.py). What another machine holds counts as held until it has been silent for a while, lock or no lock:
some network file systems lock for one machine only. Silence is measured by the clock that dates the files:
ours may be wrong.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from converters.formats.access import NO_FILE, regular
from converters.locking.file_locks import BINARY, is_at, is_gone, lock, means_something, now, rewrite
from converters.locking.heartbeats import Heartbeats
from converters.locking.holder import SOMEBODY, Holder, decoded, encoded, lives, this_process

SILENCE = 60.0
"""Seconds without a sign of life after which a holder that cannot be asked is taken for dead."""

# A file that is locked by nobody and says nothing was made just now, or its maker was killed that moment.
_YOUNG = 2.0
# Seconds between two looks, before and after it was said that somebody is waited for.
_LOOK, _LATER = 0.1, 0.5
# Shorter waits are not worth a line.
_SOON = 1.0
_MOST = 1 << 16
_FREE = b"free\n"

_beats = Heartbeats()
_ours: set[LockFile] = set()


class LockFile:
    """A file that we hold, and what it says of us."""

    def __init__(self, path: Path, file: int, holder: Holder) -> None:
        self.path = path
        self.holder = holder
        self._file = file
        _ours.add(self)
        _beats.add(self._beat)

    def release(self, *, stay: bool = False) -> None:
        """Let others have it. stay: the file is left, and says that it is free."""
        _beats.drop(self._beat)
        try:
            if self.is_ours() and (stay or os.name == "nt" or not is_gone(self.path)):
                with suppress(OSError):
                    rewrite(self._file, _FREE)
        finally:
            self.close()
            if os.name == "nt" and not stay:  # an open file cannot be removed there
                is_gone(self.path)

    def is_ours(self) -> bool:
        """Whether nobody took us for dead."""
        return is_at(self.path, self._file)

    def close(self) -> None:
        _ours.discard(self)
        with suppress(OSError):
            os.close(self._file)

    def _beat(self) -> None:
        """Dated by the file server."""
        try:
            os.utime(self._file if os.utime in os.supports_fd else self.path)
        except OSError:
            with suppress(OSError):
                rewrite(self._file, encoded(self.holder))


@contextmanager
def held(
    path: Path,
    note: Callable[[str], None] = logging.getLogger(__name__).warning,
    check: Callable[[], None] = lambda: None,
    *,
    stay: bool = False,
) -> Iterator[LockFile]:
    """Hold the file; its folder is made if it is not there. Whoever has to wait is told once for whom, and
    since when. check: called while waiting; what it raises ends that. stay: see LockFile.release. Raises
    OSError where the file cannot be made."""
    guard = _waited_for(path, note, check)
    try:
        yield guard
    finally:
        guard.release(stay=stay)


def _waited_for(path: Path, note: Callable[[str], None], check: Callable[[], None]) -> LockFile:
    begun, noted = time.monotonic(), False
    while isinstance(found := _taken(path), Holder):
        check()
        if not noted and time.monotonic() - begun > _SOON:
            noted = True
            note(_waiting(found, path))
        time.sleep(_LATER if noted else _LOOK)
    return found


def _taken(path: Path) -> LockFile | Holder:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return take(path)
        except FileNotFoundError:  # who held it has failed, and removed the folders that it had made
            if path.parent.is_symlink():  # to nowhere
                raise


def _waiting(holder: Holder, path: Path) -> str:
    gone = "" if holder.is_of_this_machine else f", or after {SILENCE:.0f} s without a sign of it"
    return f"waiting for {holder}, which holds {path}; this goes on when that ends{gone}"


def take(path: Path) -> LockFile | Holder:
    """Hold the file, or hear who does. Raises OSError where it cannot be made."""
    while True:
        try:
            return _made(path)
        except FileExistsError:
            look = _Look(path)
        try:
            if look.holder is not None:
                return look.holder
            if not look.clear():
                return look.in_place()
        finally:
            look.close()


def holder_of(path: Path) -> Holder | None:
    """Who holds it, and lives; None for what nobody holds, is not there, or is no file. Raises OSError."""
    try:
        look = _Look(path)
    except OSError as error:
        if error.errno in NO_FILE:
            return None
        raise
    look.close()
    return look.holder


def _made(path: Path) -> LockFile:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | BINARY, 0o666)
    deadline = time.monotonic() + _YOUNG
    while lock(file) is False and time.monotonic() < deadline:
        time.sleep(0.001)  # somebody is looking at it
    return LockFile(path, file, _signed(file))


def _signed(file: int) -> Holder:
    """Say in the file that it is ours, to all accounts, if there is room, and it lets us."""
    status = os.fstat(file)
    holder = this_process(status.st_dev)
    with suppress(OSError):
        rewrite(file, encoded(holder))
    with suppress(OSError, AttributeError):  # Windows has no fchmod
        os.fchmod(file, stat.S_IMODE(status.st_mode) | 0o444)
    return holder


class _Look:
    """What there is of a file at this moment. holder: who holds it and lives. Otherwise it stays open, and
    locked for us where that means something, until it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.holder: Holder | None = None
        self._file: int | None = None
        self._left: Holder | None = None
        self._locked = False
        try:
            self._file = _opened(path)
            self.holder = self._holder(self._file)
        except FileNotFoundError:
            self.close()
        except PermissionError:
            self.close()
            if not self._silent(path.stat(), SILENCE):
                self.holder = SOMEBODY
            elif not is_gone(path):
                raise

    def _holder(self, file: int) -> Holder | None:
        granted = lock(file)
        text = os.read(file, _MOST)
        self._left = decoded(text)
        if granted is False:
            return self._left or SOMEBODY
        if text == _FREE or not is_at(self.path, file):
            self._locked = bool(granted)
            return None
        self._locked = bool(granted) and means_something(self.path)
        return (self._left or SOMEBODY) if self._counts(os.fstat(file)) else None

    def _counts(self, status: os.stat_result) -> bool:
        """Whether what it says holds, though nobody keeps us from its lock."""
        left = self._left
        if left is None:
            return not self._silent(status, _YOUNG if self._locked else SILENCE)
        if self._locked and left.is_of_this_machine and left.device == status.st_dev:
            return False
        alive = lives(left)
        return not self._silent(status, SILENCE) if alive is None else alive

    def _silent(self, status: os.stat_result, seconds: float) -> bool:
        return now(self.path.parent) - status.st_mtime >= seconds

    def clear(self) -> bool:
        """Remove what nobody holds; False if it is locked for us and that is not allowed."""
        if self._file is None or not is_at(self.path, self._file):
            return True
        if not self._locked:
            _bury(self.path, self._left)
            return True
        if os.name == "nt":  # an open file cannot be removed there
            self.close()
        return is_gone(self.path)

    def in_place(self) -> LockFile:
        """Another account's file, in a folder where only that may remove it."""
        assert self._file is not None
        file, self._file = self._file, None
        return LockFile(self.path, file, _signed(file))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _opened(path: Path) -> int:
    try:
        return regular(path, os.O_RDWR)
    except PermissionError:
        return regular(path)


def _bury(path: Path, dead: Holder | None) -> None:
    """Without a lock two may find the same holder dead: the second has a living one in its hands then, and
    puts it back."""
    grave = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with suppress(FileNotFoundError):
        path.rename(grave)
        if decoded(grave.read_bytes()) == dead:
            grave.unlink()
        else:
            grave.rename(path)


def _let_go() -> None:
    """In a child process: it must not keep alive what its parent holds."""
    for guard in tuple(_ours):
        guard.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
