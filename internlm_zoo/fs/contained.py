"""What lies below a folder of ours: it is removed, and nothing outside of it.

A link is removed as the link that it is; none is followed on the way, whoever puts one there meanwhile: each
folder is opened from the one above it (openat(2), O_NOFOLLOW). Where a system has no such call, it is seen
where the path leads to right before it is removed.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from internlm_zoo.errors import IntegrityError

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_BY_FOLDERS = os.supports_dir_fd >= {os.open, os.stat, os.unlink, os.rmdir, os.rename}
_IN_THE_WAY = (errno.ELOOP, errno.ENOTDIR)
_DEEPEST = 12
"""Folders within each other; each takes an open file while what is in it is removed."""


def real(path: Path) -> Path:
    """Where it leads. Links that lead back to themselves lead nowhere; Path.resolve raises RuntimeError for
    such, before 3.13."""
    return Path(os.path.realpath(path))


def remove(root: Path, path: Path) -> None:
    """A file, a link, or a folder with all that is in it. What is not there is no error. root: a folder,
    which may be reached by links. path: somewhere below it.

    Raises IntegrityError where the path leads out of the root, OSError.
    """
    with suppress(FileNotFoundError), _naming(path), _above(root, path) as folder:
        if folder is not None:
            _remove(folder, path.name)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def remove_if_empty(root: Path, path: Path) -> bool:
    """Whether it was an empty folder below the root, and is gone."""
    with suppress(OSError, IntegrityError), _above(root, path) as folder:
        path.rmdir() if folder is None else os.rmdir(path.name, dir_fd=folder)
        return True
    return False


def take_out(root: Path, path: Path, target: Path) -> None:
    """Rename it to a place elsewhere. Raises IntegrityError as `remove` does, OSError."""
    with _naming(path), _above(root, path) as folder:
        path.rename(target) if folder is None else os.rename(path.name, target, src_dir_fd=folder)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """The system names what is in an open folder by its last name alone."""
    try:
        yield
    except OSError as error:
        error.filename = os.fspath(path)
        raise


@contextmanager
def _above(root: Path, path: Path) -> Iterator[int | None]:
    """The folder that a path below the root lies in, open; None where folders cannot be opened."""
    parts = path.relative_to(root).parts if path.is_relative_to(root) else ()
    if not parts or ".." in parts:
        raise _outside(root, path)
    if not _BY_FOLDERS:
        if not real(path.parent).is_relative_to(real(root)):
            raise _outside(root, path)
        yield None
        return
    folder = os.open(root, _FOLDER)
    try:
        for part in parts[:-1]:
            folder = _entered(folder, part, root, path)
        yield folder
    finally:
        os.close(folder)


def _entered(folder: int, part: str, root: Path, path: Path) -> int:
    """A folder in an open one, open in its place."""
    try:
        inner = os.open(part, _FOLDER | _NO_LINK, dir_fd=folder)
    except OSError as error:
        if error.errno in _IN_THE_WAY:
            raise _outside(root, path) from error
        raise
    os.close(folder)
    return inner


def _remove(folder: int, name: str, top: int | None = None, depth: int = 0) -> None:
    """What lies deep is brought to the top, where its turn comes: there may be more folders within each other
    than files may be open, or than Python has frames for. top: the open folder that all is below."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        return os.unlink(name, dir_fd=folder)
    if depth == _DEEPEST:
        return os.rename(name, token_hex(8), src_dir_fd=folder, dst_dir_fd=top)
    inner = os.open(name, _FOLDER | _NO_LINK, dir_fd=folder)
    try:
        while names := os.listdir(inner):  # noqa: PTH208 - a Path cannot be one of an open folder
            for below in names:
                _remove(inner, below, inner if top is None else top, depth + 1)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)


def _outside(root: Path, path: Path) -> IntegrityError:
    what = f"refused to remove what does not lie in {root}: a link or another place is in the way"
    return IntegrityError(what, path, "see what it is, and remove it yourself")
