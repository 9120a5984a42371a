"""Digests of bytes: of a file on the disk, or taken as they pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from io import FileIO
from pathlib import Path

from converters.formats.access import regular
from converters.system.open_files import Opener
from internlm_zoo.files import ALGORITHMS, Digests
from internlm_zoo.progress import Progress

PIECE = 1 << 20
"""Bytes read at a time: hashes let other threads run meanwhile."""


class Hasher:
    """Several digests of the same bytes. size: how many they are, for algorithms that need it."""

    def __init__(self, algorithms: Iterable[str], size: int | None) -> None:
        self._running = {name: ALGORITHMS[name].begin(size or 0) for name in algorithms}

    def update(self, piece: bytes | memoryview) -> None:
        for hash in self._running.values():
            hash.update(piece)

    def copy(self) -> Hasher:
        """As it is now, to go back to."""
        copied = Hasher((), None)
        copied._running = {name: hash.copy() for name, hash in self._running.items()}
        return copied

    @property
    def digests(self) -> Digests:
        return Digests(**{name: hash.hexdigest() for name, hash in self._running.items()})


def hash_file(
    path: Path,
    algorithms: Iterable[str] = ("sha256",),
    on_bytes: Callable[[int], None] | None = None,
    opener: Opener = regular,
) -> Digests:
    """The digests of a file on the disk. on_bytes: told the size of each piece; what it raises ends the
    reading. Raises OSError."""
    with open(path, "rb", buffering=0, opener=opener) as file:
        hasher = Hasher(algorithms, os.fstat(file.fileno()).st_size)
        feed(file, hasher.update, on_bytes=on_bytes)
    return hasher.digests


def hash_shown(path: Path, task: str, progress: Progress, algorithms: Iterable[str] = ("sha256",)) -> Digests:
    """The same, with progress under the name of a task."""
    progress.start(task, path.stat().st_size)
    try:
        return hash_file(path, algorithms, partial(progress.advance, task))
    finally:
        progress.finish(task)


def feed(
    file: FileIO,
    update: Callable[[memoryview], object],
    length: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> int:
    """Read on from where a file stands, so many bytes or to its end. update: gets each piece, which is good
    until the next. Returns the bytes that there were."""
    buffer = memoryview(bytearray(PIECE if length is None else min(PIECE, length)))
    done = 0
    while count := file.readinto(buffer if length is None else buffer[: length - done]):
        update(buffer[:count])
        done += count
        if on_bytes is not None:
            on_bytes(count)
    return done
