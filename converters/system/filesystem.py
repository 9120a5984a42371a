"""What file systems do not have in common, decided in one place.

What one does not know (`is_unknown`) is worked around by the functions here; what it refuses or fails at
becomes an error that names the path and a way out (`writing`).

Facts: the man-pages of chmod(2), fsync(2), flock(2), link(2), rename(2), posix_fallocate(3), write(2) and
setrlimit(2). That a failed fsync loses bytes, and that the next one does not tell: lwn.net/Articles/752063.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from converters.errors import AccessError, DiskError, NoSpaceError, UsageError, ZooError


def _numbers(names: str) -> frozenset[int]:
    """Of errors by these names, as far as this system has them."""
    return frozenset(getattr(errno, name) for name in names.split() if hasattr(errno, name))


# The call is not there, in this kernel or for this file system. fsync(2) says so with EINVAL: the file "does
# not support synchronization".
_UNKNOWN = _numbers("ENOSYS EINVAL ENOTSUP EOPNOTSUPP")
# Where modes and times cannot be had these are answers, too (CIFS, exFAT, FUSE).
_DENIED = _UNKNOWN | _numbers("EPERM EACCES EROFS")
FULL = _numbers("ENOSPC EDQUOT")
FORBIDDEN = _numbers("EACCES EPERM EROFS ENOTDIR EISDIR ENAMETOOLONG ELOOP EXDEV EMLINK EEXIST")
TOO_MANY = _numbers("EMFILE ENFILE")
# The disk or its server does not do what it should.
_FAILING = _numbers("EIO ESTALE ENXIO ENODEV EREMOTEIO EUCLEAN ENOTCONN EBADMSG")
_AGAIN = "run it again: it goes on where it stopped"


def is_unknown(error: OSError) -> bool:
    """Whether the file system does not know what it was asked, rather than fail at it."""
    return error.errno in _UNKNOWN


@contextmanager
def best_effort(told: Callable[[OSError], None] = lambda error: None) -> Iterator[None]:
    """What is not needed is left undone where the place takes nothing from us, for whatever reason. told: of
    what is in the way."""
    try:
        yield
    except OSError as error:
        if error.errno not in FORBIDDEN | FULL:
            raise
        told(error)


@contextmanager
def writing(path: str | os.PathLike[str], elsewhere: str = "choose another place") -> Iterator[None]:
    """What the system refuses inside becomes an error about this path: NoSpaceError for a full disk, a quota
    and a limit of file sizes, UsageError where it may not be written to, DiskError where the disk fails.

    elsewhere: the way out where the place will not do. What has no such number goes through.
    """
    try:
        yield
    except OSError as error:
        refusal = refusal_of(error, path, elsewhere)
        if refusal is None:
            raise
        raise refusal from error


def refusal_of(error: OSError, path: str | os.PathLike[str], elsewhere: str) -> ZooError | None:
    """See `writing`; None for what is not of a file system."""
    named = os.fsdecode(error.filename or "")  # relative where it was reached by a descriptor
    where, words = named if Path(named).is_absolute() else os.fspath(path), error.strerror or str(error)
    if error.errno in FULL:
        what = "the disk is full" if error.errno == errno.ENOSPC else f"this account may use no more: {words}"
        return NoSpaceError(what, where, f"make room and {_AGAIN}")
    if error.errno == errno.EFBIG:
        return _too_large(where, elsewhere)
    if error.errno in FORBIDDEN and not Path(where).is_relative_to(path):  # nothing that was to be written
        return AccessError(f"the system refuses it: {words}", where)
    if error.errno in FORBIDDEN:
        blocked = error.errno in (errno.EEXIST, errno.ENOTDIR) and _in_the_way(where)
        return UsageError(f"cannot write there: {blocked or words}", where, elsewhere)
    if error.errno in TOO_MANY:
        fix = "allow more (`ulimit -n`), or let it do less at a time"
        return UsageError(f"too many files are open: {words}", where, fix)
    if error.errno in _FAILING:
        return DiskError(f"the disk fails: {words}", where, f"see to it, or {elsewhere}; then run it again")
    return None


def _in_the_way(path: str) -> str | None:
    """What stands where a folder should be made."""
    whole = Path(path).absolute()
    place = next(place for place in (whole, *whole.parents) if os.path.lexists(place))
    if place.is_symlink() and not os.path.exists(place):  # noqa: PTH110 - Path.exists may raise
        return f"{place} is a link that leads nowhere"
    return f"{place} is a file" if place.is_file() else None


def _too_large(where: str, elsewhere: str) -> ZooError:
    limit = _limit_of_sizes()
    if limit is None:
        return NoSpaceError("the file system takes no files of that size", where, elsewhere)
    fix = f"allow larger ones (`ulimit -f unlimited`) and {_AGAIN}"
    return NoSpaceError(f"no file may be larger than {limit:,} bytes here (ulimit -f)", where, fix)


def _limit_of_sizes() -> int | None:
    """Of this process; None if there is none."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def flush(file: int) -> None:
    """Have the bytes of an open file on the disk, where the file system knows what that is.

    Raises OSError where it fails: bytes are lost then, though they may still be read.
    """
    try:
        os.fsync(file)
    except OSError as error:
        if not is_unknown(error):
            raise


def reserve(file: int, size: int) -> None:
    """Give an open file this size, with its room on the disk where that can be reserved. Raises OSError."""
    if size and hasattr(os, "posix_fallocate"):
        try:
            return os.posix_fallocate(file, 0, size)
        except OSError as error:
            if not is_unknown(error):
                raise
    resize(file, size)


def resize(file: int, size: int) -> None:
    """Give an open file this size. Raises OSError."""
    try:
        os.ftruncate(file, size)
    except OSError as error:
        there = os.fstat(file).st_size
        if not is_unknown(error) or size < there:
            raise
        if size > there:
            os.lseek(file, size - 1, os.SEEK_SET)  # a byte at its end makes it as long
            os.write(file, b"\0")


def set_mode(path: Path, mode: int) -> None:
    """Where there are modes, and they are ours to set: they guard against mistakes, nothing rests on them."""
    with _where_possible():
        path.chmod(mode)


def set_time(path: Path, nanoseconds: int) -> None:
    """The time of its last change, where that can be set."""
    with _where_possible():
        os.utime(path, ns=(nanoseconds, nanoseconds))


def copy(source: Path, target: Path) -> None:
    """The bytes and, where it can be set, the time of the last change. Raises OSError."""
    shutil.copyfile(source, target)
    set_time(target, source.stat().st_mtime_ns)


def write_whole(path: Path, content: bytes, draft: Path | None = None) -> None:
    """Put the content in the place of what is there, in one step: a reader sees the old file or the new one.
    Nobody else writes it meanwhile. draft: its name until then; None: `.NAME.new`. Raises OSError."""
    draft = draft or path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)  # a link would be written through
    try:
        with draft.open("xb") as file:
            file.write(content)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def move(source: Path, target: Path) -> None:
    """Rename a file or a link, in place of what is there; to another device by way of a copy beside the
    target. Raises OSError."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_over(source, target)


def _move_over(source: Path, target: Path) -> None:
    draft = target.with_name(f".{token_hex(8)}.moving")
    try:
        if source.is_symlink():
            draft.symlink_to(source.readlink())
        else:
            copy(source, draft)
            with draft.open("rb+") as file:
                flush(file.fileno())
            set_mode(draft, source.stat().st_mode & 0o7777)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    source.unlink()


def nearest(path: Path) -> Path:
    """The path, or the folder above it that exists, and may be seen."""
    return next(place for place in (path, *path.parents) if os.path.exists(place))  # noqa: PTH110 - Path.exists may raise


def room(path: Path) -> int | None:
    """Free bytes for this account where a path is, or would be; None where nobody says. Raises OSError."""
    try:
        return shutil.disk_usage(nearest(path)).free
    except OSError as error:
        if not is_unknown(error):
            raise
        return None


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of our own for what is of use for a moment only. Raises UsageError where there can be none."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="internlm-zoo-")
    except OSError as error:
        what = "there is no folder for temporary files that can be written to"
        raise UsageError(what, error.filename or error.strerror, "set TMPDIR to one") from error
    with folder as name:
        try:
            yield Path(name)
        except OSError as error:
            ours = error.filename is None or Path(os.fsdecode(error.filename)).is_relative_to(name)
            refusal = refusal_of(error, name, "set TMPDIR to another place") if ours else None
            if refusal is None:
                raise
            raise refusal from error


@contextmanager
def _where_possible() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DENIED:
            raise
