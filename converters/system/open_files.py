"""Files that stay open between two uses, as far as the limit of open files (`ulimit -n`) allows.

The others are opened for each use: slower, and a checkpoint may have more files than a process may open.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

# What is left for what is open for a moment only: a use in each thread, a journal, a config.
_RESERVE = 16
# As many are asked for where fewer are allowed and the system has more for us.
_ENOUGH = 4096
_BINARY = getattr(os, "O_BINARY", 0)  # Windows turns line ends without it

Opener = Callable[[str, int], int]
"""A descriptor of a path, opened with these flags."""


def _ours(path: str, flags: int) -> int:
    return os.open(path, flags, 0o666)


class Handle:
    """A file, readable and writable at offsets from any thread. opener: opens it, each time. Raises OSError,
    at once and later, and what the opener raises."""

    def __init__(
        self, path: str | os.PathLike[str], flags: int = os.O_RDONLY, opener: Opener = _ours
    ) -> None:
        self._path = os.fspath(path)
        self._flags = (flags & ~(os.O_CREAT | os.O_EXCL)) | _BINARY  # it is there by then
        self._opener = opener
        self._lock = threading.Lock()
        file = opener(self._path, flags | _BINARY)
        self._kept = file if file < limit() - _RESERVE else None
        if self._kept is None:
            os.close(file)

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Its descriptor, for a moment."""
        if self._kept is not None:
            yield self._kept
            return
        file = self._opener(self._path, self._flags)
        try:
            yield file
        finally:
            os.close(file)

    def read(self, length: int, offset: int) -> bytes:
        """Some bytes from there on, at most so many; none at the end."""
        with self.opened() as file:
            if hasattr(os, "pread"):
                return os.pread(file, length, offset)
            with self._lock:
                os.lseek(file, offset, os.SEEK_SET)
                return os.read(file, length)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """The same into a buffer; how many bytes came."""
        if not hasattr(os, "preadv"):
            data = self.read(len(buffer), offset)
            buffer[: len(data)] = data
            return len(data)
        with self.opened() as file:
            return os.preadv(file, [buffer], offset)

    def write(self, data: memoryview, offset: int) -> None:
        """All of it, from there on."""
        with self.opened() as file:
            while data:
                done = self._write_some(file, data, offset)
                offset, data = offset + done, data[done:]

    def _write_some(self, file: int, data: memoryview, offset: int) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(file, data, offset)
        with self._lock:
            os.lseek(file, offset, os.SEEK_SET)
            return os.write(file, data)

    def close(self) -> None:
        if self._kept is not None:
            os.close(self._kept)
            self._kept, self._path = None, ""  # which nothing can be opened by


@cache
def limit() -> int:
    """How many files this process may have open; as many as the system has for it, up to _ENOUGH."""
    if sys.platform == "win32":
        return 512  # of Microsoft's C library
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):  # macOS knows a lower bound of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _ENOUGH if soft == resource.RLIM_INFINITY else soft


def spare() -> int:
    """How many more files can be kept open now."""
    for place in (Path("/proc/self/fd"), Path("/dev/fd")):
        with suppress(OSError):
            return max(0, limit() - _RESERVE - len(os.listdir(place)))  # noqa: PTH208 - names alone
    return max(0, limit() - 2 * _RESERVE)
