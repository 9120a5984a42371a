"""What the system refuses of a file or a directory becomes an error that names it, wherever it is read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converters.errors import AccessError, NotFoundError, ZooError

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


def check_is_file(path: str | os.PathLike[str]) -> None:
    """Raises AccessError for what is no regular file: a directory, or a pipe, which would wait for ever."""
    with reading(path):
        mode = Path(path).stat().st_mode
    if stat.S_ISDIR(mode):
        raise AccessError("it is a directory, and a file is expected here", os.fspath(path))
    if not stat.S_ISREG(mode):
        raise AccessError("it is a pipe or a device, and a file is expected here", os.fspath(path))


def no_directory(path: str | os.PathLike[str]) -> NotFoundError:
    """What to say where a directory is expected."""
    if os.path.exists(path):  # noqa: PTH110 (also of what cannot be seen)
        return NotFoundError("it is a file", os.fspath(path), "name the directory that it is in")
    return NotFoundError("there is no such directory", os.fspath(path))


def is_directory(path: str | os.PathLike[str]) -> bool:
    """False where there is nothing or a file. Raises AccessError where the system does not let it be seen."""
    try:
        return stat.S_ISDIR(Path(path).stat().st_mode)
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return False
        raise refusal(path, error) from error
