"""Where the bytes of a checkpoint come from: anything that has a size and can be read at an offset.

Index readers take a `ByteSource` or a path, so that a file on disk and one behind HTTP ranges are read alike.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from converters.errors import IntegrityError
from converters.formats.access import reading, regular
from converters.formats.identity import Identity, changed, identity_at
from converters.system.mappings import Memory
from converters.system.open_files import Handle, Opener

_CHUNK = 1 << 20
# What Linux reads ahead of most disks, and so the most that one hint has it read (mm/readahead.c).
_AHEAD = 128 << 10


class ByteSource(Protocol):
    """A file of known size, readable at any offset from any thread."""

    @property
    def name(self) -> str:
        """What an error calls it and what reopens it: a path or a URL."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes. Raises IntegrityError where the source ends before that."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer (of bytes) from `offset` on. Raises IntegrityError as `read` does."""

    def expect(self, offset: int, length: int) -> None:
        """A hint: this thread is going to read this range, front to back and little more."""

    def keep(self, offset: int, length: int) -> None:
        """A hint: all of this range is going to be read, in pieces and in any order."""

    def prefetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """A hint: these short ranges (offset, length) are going to be read, maybe more than once."""

    def announce(self, ranges: Sequence[tuple[int, int]]) -> None:
        """A hint: these ranges (offset, length) are going to be read soon, and nothing around them."""

    def close(self) -> None: ...


ZEROS = "zeros"
"""The name of the file that holds nothing else."""


class _AtHand:
    """Hints that call for nothing: memory and disks answer at once, the system reads ahead and caches."""

    def expect(self, offset: int, length: int) -> None: ...
    def keep(self, offset: int, length: int) -> None: ...
    def prefetch(self, ranges: Sequence[tuple[int, int]]) -> None: ...
    def announce(self, ranges: Sequence[tuple[int, int]]) -> None: ...


class Zeros(_AtHand):
    """A file of zeros, as long as anyone needs it."""

    name = ZEROS
    size = 1 << 62

    def read(self, offset: int, length: int) -> bytes:
        return bytes(length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = bytes(len(buffer))

    def close(self) -> None: ...


class LocalFile(_AtHand):
    """A regular file on disk as a ByteSource; a context manager. opener: as `regular`, or stricter. identity:
    as it was when it was opened. Raises NotFoundError if there is none, and AccessError if it cannot be read,
    at once or later."""

    def __init__(self, path: str | os.PathLike[str], opener: Opener = regular) -> None:
        self.name = os.fspath(path)
        with reading(path):
            self._handle = Handle(path, opener=opener)
            with self._handle.opened() as file:
                self.identity = Identity.of(os.fstat(file))

    @property
    def size(self) -> int:
        return self.identity.size

    def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise self._short(offset, length)
        first = self._read_some(offset, length)
        if len(first) == length:
            return first
        return self._read_rest(offset, length, first)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        done = self._read_some_into(offset, buffer)
        while done < len(buffer):
            count = self._read_some_into(offset + done, buffer[done:])
            if not count:
                raise self._short(offset, len(buffer))
            done += count

    def prefetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        self.announce(ranges)

    def announce(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Has the system begin to read just these, posix_fadvise(2). Whoever finds them in its cache has it
        read nothing ahead, which is up to 8 MB on disks of virtual machines."""
        if not hasattr(os, "posix_fadvise"):
            return
        with reading(self.name), self._handle.opened() as file:
            for offset, length in ranges:
                for start in range(offset, offset + length, _AHEAD):
                    step = min(_AHEAD, offset + length - start)
                    os.posix_fadvise(file, start, step, os.POSIX_FADV_WILLNEED)

    def mapped(self) -> mmap.mmap | None:
        """All of it, in the memory of the system's file cache; what is written there changes no file. None
        where the system maps no files, or not this one. It stays for as long as its user has it.

        Who cuts the file off meanwhile ends the process that looks beyond its new end (mmap(2), SIGBUS).
        """
        try:
            with self._handle.opened() as file:
                found = mmap.mmap(file, 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError):  # no memory of that size, a file system that cannot; an empty file
            return None
        if len(found) != self.size:
            raise self._short(0, self.size)
        return found

    def lay(self, memory: Memory, offset: int, start: int, nbytes: int) -> None:
        """Have these bytes of it take the place of those in memory, as `Memory.lay` does. Raises
        IntegrityError for a file of another size than it had, OSError where it cannot be mapped."""
        with self._handle.opened() as file:
            if os.fstat(file).st_size == self.size:
                memory.lay(file, offset, start, nbytes)
                return
        raise self._short(offset, nbytes)

    def confirm(self) -> None:
        """Raises IntegrityError if what its name leads to is not what was opened, or was written to since."""
        now = identity_at(self.name)
        if now != self.identity:
            raise changed(self.name, self.identity, now)

    def close(self) -> None:
        self._handle.close()

    def __enter__(self) -> LocalFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _read_rest(self, offset: int, length: int, first: bytes) -> bytes:
        """One system call gives at most 2 GiB, and less at an interruption."""
        parts = bytearray(first)
        while len(parts) < length:
            part = self._read_some(offset + len(parts), length - len(parts))
            if not part:
                raise self._short(offset, length)
            parts += part
        return bytes(parts)

    def _short(self, offset: int, length: int) -> IntegrityError:
        """What to say of bytes that are not there: whether they were, when it was opened."""
        with reading(self.name), self._handle.opened() as file:
            now = Identity.of(os.fstat(file))
        if now.size != self.size:
            return changed(self.name, self.identity, now)
        what = f"bytes {offset}..{offset + length} are wanted of a file of {self.size}"
        return IntegrityError(what, self.name, "the file is truncated or damaged: fetch it again")

    def _read_some_into(self, offset: int, buffer: memoryview) -> int:
        with reading(self.name):
            return self._handle.read_into(buffer, offset)

    def _read_some(self, offset: int, length: int) -> bytes:
        with reading(self.name):
            return self._handle.read(length, offset)


class MemoryFile(_AtHand):
    """A small file that is in memory, as a ByteSource."""

    def __init__(self, name: str, content: bytes) -> None:
        self.name = name
        self._content = content

    @property
    def size(self) -> int:
        return len(self._content)

    def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise IntegrityError(
                f"bytes {offset}..{offset + length} are wanted of a file of {self.size}", self.name
            )
        return self._content[offset : offset + length]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self.read(offset, len(buffer))

    def close(self) -> None: ...


class Digest(Protocol):
    """What hashlib and blake3 give."""

    def update(self, data: bytes | memoryview, /) -> object: ...
    def hexdigest(self) -> str: ...


def read_alone(source: ByteSource, offset: int, length: int) -> bytes:
    """Of a header, without what the system would read ahead: that is weights, which may be another's."""
    source.announce([(offset, length)])
    return source.read(offset, length)


def hex_of(source: ByteSource, digest: Digest) -> str:
    """The digest of a whole file, read piece by piece."""
    for part in chunks(source, 0, source.size):
        digest.update(part)
    return digest.hexdigest()


def chunks(source: ByteSource, offset: int, length: int) -> Iterator[memoryview]:
    """The bytes of a range, piece by piece; each piece is good until the next."""
    buffer = memoryview(bytearray(min(_CHUNK, length)))
    for done in range(0, length, _CHUNK):
        part = buffer[: min(_CHUNK, length - done)]
        source.read_into(offset + done, part)
        yield part


@contextmanager
def opened(source: ByteSource | str | os.PathLike[str]) -> Iterator[ByteSource]:
    """The source itself, left open, or the file of that path, closed afterwards."""
    if isinstance(source, str | os.PathLike):
        with LocalFile(source) as file:
            yield file
    else:
        yield source
