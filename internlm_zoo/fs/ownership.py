"""Names of unfinished files that say who writes them, so that others can tell what a kill left.

`<key>.<owner>-<random>.part`, where `<owner>.life` in the same folder is held (converters/holding) by the
process as long as it is at work there. So the names end with their process, whatever else has its id, its
host name or its place in a container.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from converters.locking import Holder, LockFile, holder_of, take
from internlm_zoo.fs import contained

_FREE = "free"
_LIFE = ".life"
_OURS = re.compile(
    r"[^.]+\.(free|[0-9a-f]{16})-[0-9a-f]+\.(part|journal|new)"  # on its way; see transfer/journal.py
    r"|([0-9a-f]{16}\.life|[^.]+\.lock)(\.[0-9a-f]{8})?"  # held by somebody, or being removed
    r"|\.[0-9a-f]{16}\.(now|moving)"  # for a moment
)


@dataclass
class _Lease:
    guard: LockFile
    users: int = 0


_leases: dict[tuple[int, Path], _Lease] = {}
_changing = threading.Lock()


class Owner:
    """This process, at work in a folder: a context manager. Made if it is not there, the folder shows a lease
    of it meanwhile. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = os.getpid(), folder.absolute()
        with _changing:
            lease = _leases.get(self._key)
            if lease is None or not lease.guard.is_ours():
                lease = _leases[self._key] = _Lease(_taken(folder))
            lease.users += 1
            self._lease = lease

    def name(self, key: str) -> Path:
        """One of its names there, drawn anew each time. key: without a dot."""
        return self._folder / f"{key}.{self._lease.guard.path.stem}-{secrets.token_hex(4)}.part"

    def leave(self) -> None:
        """Its names there belong to nobody from now on, unless it is there a second time."""
        with _changing:
            self._lease.users -= 1
            if not self._lease.users:
                self._lease.guard.release()
                if _leases.get(self._key) is self._lease:
                    del _leases[self._key]

    def __enter__(self) -> Owner:
        return self

    def __exit__(self, *exception: object) -> None:
        self.leave()


def _taken(folder: Path) -> LockFile:
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale(folder)
    while True:
        lease = take(folder / f"{secrets.token_hex(8)}{_LIFE}")
        if isinstance(lease, LockFile):
            return lease


def remove_stale(folder: Path) -> None:
    """Remove the leases of processes that are over."""
    for lease in named(folder, "", _LIFE):
        with suppress(OSError):  # another account's: it says the same as none
            if holder_of(lease) is None:
                lease.unlink(missing_ok=True)


def holder_in(folder: Path) -> Holder | None:
    """Some process that is at work there."""
    holders = map(holder_of, named(folder, "", _LIFE))
    return next((holder for holder in holders if holder is not None), None)


@contextmanager
def draft(folder: Path, key: str) -> Iterator[Path]:
    """A name for what is to be renamed when it is whole; what a kill left under such names goes, and so does
    what is left of this one in the end."""
    with Owner(folder) as owner:
        sweep(folder, key)
        path = owner.name(key)
        try:
            yield path
        finally:
            discard(path)


def free_name(key: str) -> str:
    """A name of nobody's: whoever comes next may have it."""
    return f"{key}.{_FREE}-{secrets.token_hex(4)}.part"


def is_ours(name: str) -> bool:
    """Whether it is a name that something of ours has in a folder for unfinished files: what has another is
    somebody else's."""
    return _OURS.fullmatch(name) is not None


def abandoned(folder: Path, key: str = "") -> list[Path]:
    """What is there under such a name whose process no longer lives. key: "" for any."""
    return [part for part in named(folder, key, ".part") if owner_of(part) is None]


def named(folder: Path, key: str, *suffixes: str) -> list[Path]:
    """What is there of a key ("": of any), by its suffixes. A pattern for each of many files would take
    longer than the files."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a Path for each name would, too
    except (FileNotFoundError, NotADirectoryError):
        return []
    start = f"{key}." if key else ""
    return [folder / name for name in names if name.startswith(start) and name.endswith(suffixes)]


def sweep(folder: Path, key: str) -> None:
    """Remove what is abandoned there: for drafts, which nobody goes on with."""
    for left in abandoned(folder, key):
        discard(left)


def discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        with suppress(OSError):
            contained.remove(path.parent, path)
    else:
        path.unlink(missing_ok=True)


def owner_of(part: Path) -> Holder | None:
    """The process that lives and is writing it."""
    token = part.name.split(".")[1].partition("-")[0]
    return None if token == _FREE else holder_of(part.with_name(f"{token}{_LIFE}"))
