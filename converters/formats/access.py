"""The door to files that others have made: what is opened is a regular file, and nothing is waited for.

What the system refuses of a file or a directory becomes an error that names it, wherever it is read. A pipe
would be waited for until somebody writes, a socket and a terminal for as long, /dev/zero never ends, and
opening some devices does something. So the name is looked at first, it is opened without waiting (open(2),
O_NONBLOCK), and what was opened is looked at again: it may be another by then.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from converters.errors import AccessError, IntegrityError, NotFoundError, ZooError

# What a person can do about it.
_FIXES = {
    errno.EACCES: "let this account read it, and every directory on the way",
    errno.EPERM: "let this account read it, and every directory on the way",
    errno.ELOOP: "a link leads back to itself: name what it should lead to",
    errno.ENOTDIR: "something on the way is a file",
    errno.ENAMETOOLONG: "no file can have such a name",
    errno.EIO: "the disk or the network file system fails: fetch it again, to another place",
    errno.ESTALE: "the network file system lost it: run it again",
}
_BINARY = getattr(os, "O_BINARY", 0)  # Windows turns line ends without it
# No waiting for a pipe's writer, no terminal that becomes ours.
_AT_ONCE = _BINARY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
NO_FILE = (errno.EISDIR, errno.ESPIPE)
"""Of `regular`, for a directory, and for a pipe or a device."""
NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def refusal(path: str | os.PathLike[str], error: OSError) -> ZooError:
    """NotFoundError where there is nothing, else AccessError with the system's words."""
    if isinstance(error, FileNotFoundError):
        return NotFoundError("there is no such file", os.fspath(path))
    what = f"it cannot be read: {error.strerror or error}"
    return AccessError(what, os.fspath(path), _FIXES.get(error.errno or 0))


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """An OSError inside is a `refusal` of this path."""
    try:
        yield
    except OSError as error:
        raise refusal(path, error) from error


def regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file, links followed, for its caller to close; an `opener` for open().

    Raises OSError as os.open does, and for anything that is no regular file, at once.
    """
    _check_regular(path, Path(path).stat())  # opening a device may do something to it already
    file = _opened(path, flags)
    try:
        _check_regular(path, os.fstat(file))  # another may have its name by now
    except OSError:
        os.close(file)
        raise
    return file


@contextmanager
def opened_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A regular file to read. Raises NotFoundError, and AccessError for what is none or fails meanwhile."""
    with reading(path), open(path, "rb", opener=regular) as file:
        yield file


def content_of(path: str | os.PathLike[str], most: int) -> bytes:
    """A small file, whole. Raises what `opened_file` does, and IntegrityError if it has more bytes."""
    with opened_file(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise IntegrityError(f"it has more than {most:,} bytes, more than any such file", os.fspath(path))
    return content


def _opened(path: str | os.PathLike[str], flags: int) -> int:
    try:
        return os.open(path, flags | _AT_ONCE)
    except BlockingIOError:  # another holds a lease on the file, which the system takes back meanwhile
        return os.open(path, flags | _BINARY)


def _check_regular(path: str | os.PathLike[str], status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a directory, and a file is expected here", path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.ESPIPE, "it is a pipe or a device, and a file is expected here", path)


def no_directory(path: str | os.PathLike[str]) -> NotFoundError:
    """What to say where a directory is expected."""
    if os.path.exists(path):  # noqa: PTH110 (also of what cannot be seen)
        return NotFoundError("it is a file", os.fspath(path), "name the directory that it is in")
    return NotFoundError("there is no such directory", os.fspath(path))


def is_directory(path: str | os.PathLike[str]) -> bool:
    """False where there is nothing or a file. Raises AccessError where the system does not let it be seen."""
    try:
        return stat.S_ISDIR(Path(path).stat().st_mode)
    except ValueError:  # a zero byte, which no name has
        return False
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return False
        raise refusal(path, error) from error
