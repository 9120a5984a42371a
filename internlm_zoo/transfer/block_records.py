"""What is known of each block of a partial file: how much of it is here, from whom, with which digest. All of
it is in the file's journal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from io import FileIO
from pathlib import Path

from blake3 import blake3

from internlm_zoo.fs.disk import disk
from internlm_zoo.hashing import feed
from internlm_zoo.transfer import journal
from internlm_zoo.transfer.blocks import Blocks
from internlm_zoo.transfer.journal import Journal, KeptBlock

# How much of a slow connection's work a kill may cost.
_NOTE_SECONDS = 1.0


class WrongBlock(Exception):
    """A block is not the one that is known. Its bytes are forgotten already."""

    def __init__(self, block: int, expected: str, found: str) -> None:
        super().__init__(f"block {block}: expected blake3 {expected}, found {found}")
        self.block = block


class BlockRecords:
    """left: what an earlier run left in `file`, which counts as far as it is what the journal says. known:
    the BLAKE3 of blocks that were verified before. Not thread-safe. Whatever writes raises NoSpaceError."""

    def __init__(self, path: Path, file: FileIO, left: Journal, known: Sequence[str]) -> None:
        self.blocks = Blocks(left.wanted.size, left.block_size)
        self._path = path
        self._known = known
        self._sources: dict[int, set[str]] = {}
        self._hashers: dict[int, blake3] = {}
        self._noted: dict[int, float] = {}
        resumed = {number: kept for number, kept in left.blocks.items() if self._resume(file, number, kept)}
        self._writer = journal.Writer(path, replace(left, blocks=resumed))
        self._kept = self._writer.journal.blocks

    def _resume(self, file: FileIO, block: int, kept: KeptBlock) -> bool:
        """A block that is not full goes on where it stood, so its bytes are hashed now; the others later."""
        if kept.filled < self.blocks.length(block):
            hasher = hash_block(file, block * self.blocks.block_size, kept.filled)
            if hasher.hexdigest() != kept.blake3:
                return False
            self._hashers[block] = hasher
        self._sources[block] = set(kept.sources)
        self.blocks.fill(block, kept.filled)
        return True

    @property
    def full(self) -> dict[int, str]:
        """The BLAKE3 of the blocks that are full."""
        return {block: kept.blake3 for block, kept in self._kept.items() if self.blocks.full(block)}

    @property
    def sources(self) -> tuple[str, ...]:
        """Who sent something of it."""
        return tuple(sorted(set().union(*self._sources.values())))

    def sources_of(self, block: int) -> tuple[str, ...]:
        return tuple(sorted(self._sources.get(block, ())))

    def digest_of(self, block: int) -> str:
        return self._kept[block].blake3

    def size_is(self, size: int) -> None:
        self.blocks.size_is(size)
        for block in list(self._hashers):
            self._complete(block)

    def add(self, block: int, piece: memoryview, source: str) -> bool:
        """Bytes that were written at the end of what is here of a block. Whether it is full now. Raises
        WrongBlock."""
        self._hashers.setdefault(block, blake3()).update(piece)
        self._sources.setdefault(block, set()).add(source)
        if self._complete(block):
            return True
        now = time.monotonic()  # a process that is killed again and again may never fill a block
        if now - self._noted.setdefault(block, now) >= _NOTE_SECONDS:
            self._noted[block] = now
            self._keep(block, self._hashers[block].hexdigest())
        return False

    def replace(self, block: int, digest: str, source: str) -> None:
        """Another version of a full block was written."""
        self._sources[block] = {source}
        self._keep(block, digest)

    def forget(self, block: int) -> None:
        """Nothing of it counts."""
        self.blocks.fill(block, 0)
        self._sources.pop(block, None)
        self._note(block, "")

    def save(self) -> None:
        """Note what is here of blocks that are not full. On a full disk what the journal says already holds:
        the next run goes on from there."""
        with suppress(OSError):
            for block, hasher in self._hashers.items():
                self._note(block, hasher.hexdigest())

    def validator(self, server: str) -> str | None:
        return self._writer.journal.validators.get(server)

    def remember(self, server: str, validator: str | None) -> None:
        with disk(self._path):
            if validator is not None and self.validator(server) != validator:
                self._writer.server(server, validator)

    def close(self) -> None:
        self._writer.close()

    def _complete(self, block: int) -> bool:
        if not self.blocks.full(block):
            return False
        found = self._hashers.pop(block).hexdigest()
        if block < len(self._known) and self._known[block] != found:
            self.forget(block)
            raise WrongBlock(block, self._known[block], found)
        self._keep(block, found)
        return True

    def _keep(self, block: int, digest: str) -> None:
        with disk(self._path):
            self._note(block, digest)

    def _note(self, block: int, digest: str) -> None:
        self._writer.block(block, KeptBlock(self.blocks.filled(block), digest, self.sources_of(block)))


def hash_block(file: FileIO, start: int, amount: int) -> blake3:
    """`amount` bytes of a file from `start` on; fewer where it ends."""
    hasher = blake3()
    file.seek(start)
    feed(file, hasher.update, amount)
    return hasher
