"""The digests of a file in the order of its bytes, close behind those who write them anywhere in it.

What arrives too early waits in the file, not in memory, and is read from there while the system still holds
it. Bytes that an earlier run left are held against the digests of their blocks first."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from blake3 import blake3

from converters.system.threads import started
from internlm_zoo.errors import IntegrityError
from internlm_zoo.files import File
from internlm_zoo.hashing import PIECE, Hasher, feed
from internlm_zoo.transfer.blocks import Blocks

_TICK = 0.25


class InOrderHasher:
    """position: all bytes before it are digested. changed: guards `blocks` and tells of new ones. expected:
    BLAKE3 of blocks, by number, that were not written in this run; forget: told of one that has another."""

    def __init__(
        self,
        path: Path,
        wanted: File,
        blocks: Blocks,
        changed: threading.Condition,
        expected: Mapping[int, str],
        forget: Callable[[int], None],
    ) -> None:
        self.position = 0
        self.digest = Hasher(wanted.algorithms, wanted.size)
        self._blocks = blocks
        self._changed = changed
        self._expected = dict(expected)
        self._forget = forget
        self._file = path.open("rb", buffering=0)
        self._error: OSError | IntegrityError | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Follow in a thread of its own: for a file that takes a while."""
        if self._thread is None:
            thread = threading.Thread(target=self._follow, name="digest", daemon=True)
            self._thread = thread if started(thread) else None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._file.close()

    def settle(self, check: Callable[[], None]) -> None:
        """Wait until all that is here in one piece from the start is digested. check: called meanwhile.
        Raises OSError, IntegrityError if somebody cut the file short, and what `check` raises."""
        if self._thread is None:
            self._advance()
        with self._changed:
            while self._thread is not None and self._error is None and self._ahead():
                self._changed.wait(_TICK)
                check()
        if self._error is not None:
            raise self._error

    def _follow(self) -> None:
        try:
            while self._wait():
                self._advance()
        except (OSError, IntegrityError) as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _wait(self) -> bool:
        """Until there is more to digest; False when it is over."""
        with self._changed:
            while not (self._closed or self._ahead()):
                self._changed.wait()
            return not self._closed

    def _ahead(self) -> bool:
        """Whether the block at position is full: one that is not may still turn out to be wrong."""
        block, inside = divmod(self.position, self._blocks.block_size)
        return not inside and self._blocks.length(block) > 0 and self._blocks.full(block)

    def _advance(self) -> None:
        """Digest what is here by now, block by block."""
        while not self._closed:
            with self._changed:
                if not self._ahead():
                    return
            block = self.position // self._blocks.block_size
            stop = self.position + self._blocks.length(block)
            if block in self._expected:
                self._check_block(block, stop)
            else:
                self._digest(stop, self.digest.update)
                self._reached(stop)

    def _check_block(self, block: int, stop: int) -> None:
        """Digest a whole block, and take that back if it is not the one of its journal."""
        before, found = self.digest.copy(), blake3()

        def update(piece: memoryview) -> None:
            self.digest.update(piece)
            found.update(piece)

        self._digest(stop, update)
        if found.hexdigest() == self._expected.pop(block):
            self._reached(stop)
            return
        self.digest = before
        with self._changed:
            self._forget(block)
            self._changed.notify_all()

    def _digest(self, stop: int, update: Callable[[memoryview], None]) -> None:
        """The bytes from position to stop."""
        self._file.seek(self.position)
        if feed(self._file, update, stop - self.position) < stop - self.position:
            what = f"{self._file.name} became shorter while it was written"
            raise IntegrityError(what, fix="run it again")
        self._send_to_disk(stop)

    def _send_to_disk(self, stop: int) -> None:
        """Have the system begin to write the bytes up to there, so that the end need not wait for all of
        them. Linux does that for what it is told will not be needed; it forgets only what is on the disk
        already."""
        length = stop - self.position
        if hasattr(os, "posix_fadvise") and length > PIECE:
            os.posix_fadvise(self._file.fileno(), self.position, length, os.POSIX_FADV_DONTNEED)

    def _reached(self, position: int) -> None:
        with self._changed:
            self.position = position
            self._changed.notify_all()
