"""A file on its way: the bytes so far and what they hash to, in the order of the file, as they arrive."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from internlm_zoo.errors import NoSpaceError, UsageError
from internlm_zoo.transfer import journal
from internlm_zoo.transfer.digest import Digest
from internlm_zoo.transfer.values import Wanted

# What a kill may cost: the journal is written each time this many bytes have gone into the file.
BLOCK = 8 << 20
_READ = 1 << 20
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG})
_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


class Partial:
    """Takes over what an earlier run left in `folder` under `key`, or begins; a context manager.

    position: bytes there. resumed: how many of them an earlier run left. Whatever writes raises
    NoSpaceError on a full disk; what is there stays for the next run.
    """

    def __init__(self, folder: Path, key: str, wanted: Wanted) -> None:
        self.wanted = wanted
        with disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.path, self._journal = journal.claim(folder, key, wanted)
            self._file = self.path.open("r+b" if self._journal.flushed else "x+b", buffering=0)
            self._digest = Digest(wanted)
            self.position = self.resumed = self._hash_what_is_there()

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave what is there to the next run, unless it was kept or dropped."""
        if self._file.closed:
            return
        try:
            # On a full disk the last journal holds: the next run goes on from there.
            with suppress(NoSpaceError):
                self._flush()
        finally:
            self._file.close()
            journal.release(self.path)

    @property
    def complete(self) -> bool:
        return self.wanted.size is not None and self.position >= self.wanted.size

    @property
    def sha256(self) -> str:
        return self._digest.sha256

    def write(self, chunk: bytes) -> None:
        """Append."""
        with disk(self.path):
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) or 0 :]
        self._digest.update(chunk)
        before, self.position = self.position, self.position + len(chunk)
        if self.position // BLOCK > before // BLOCK:
            self._flush()

    def reset(self) -> None:
        """Begin again at zero, in a new file: whoever else may have the old one open cannot harm the new
        one."""
        with disk(self.path):
            self._file.close()
            journal.remove(self.path)
            self._file = self.path.open("x+b", buffering=0)
        self._journal = journal.Journal(self.wanted)
        self._digest = Digest(self.wanted)
        self.position = self.resumed = 0

    def validator(self, door: str) -> str | None:
        """The ETag of the bytes here, as `door` gave it."""
        return self._journal.validators.get(door)

    def remember(self, door: str, validator: str | None) -> None:
        """Note the version that `door` is serving."""
        if validator is not None:
            self._journal.validators[door] = validator

    def mismatch(self) -> str | None:
        """What is wrong with the file, all bytes being here, in words; None if it is what is wanted."""
        size = self.wanted.size
        if size is not None and self.position != size:
            return f"expected {size:,} bytes, found {self.position:,}"
        return self._digest.mismatch()

    def keep(self) -> Path:
        """The finished file, its bytes on the disk for good, ready for its final name."""
        with disk(self.path):
            os.fsync(self._file.fileno())
        self._file.close()
        journal.forget(self.path)
        return self.path

    def drop(self) -> None:
        """Remove every trace: the bytes are wrong."""
        self._file.close()
        journal.remove(self.path)

    def _flush(self) -> None:
        if not self.position:
            return
        self._journal = replace(self._journal, flushed=self.position)
        with disk(self.path):
            journal.write(self.path, self._journal)

    def _hash_what_is_there(self) -> int:
        left = self._journal.flushed
        while left and (chunk := self._file.read(min(left, _READ))):
            self._digest.update(chunk)
            left -= len(chunk)
        position = self._journal.flushed - left
        self._file.truncate(position)
        return position


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turns a full disk into NoSpaceError, and a place where we may not write into UsageError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            fix = "make room and run it again: it goes on where it stopped"
            raise NoSpaceError("the disk is full", path, fix) from error
        if error.errno in _FORBIDDEN:
            what = f"cannot write there: {error.strerror}"
            raise UsageError(
                what, error.filename or path, "use another --local-dir or INTERNLM_ZOO_HOME"
            ) from error
        raise
