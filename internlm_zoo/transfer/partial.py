"""A file on its way: bytes that arrive anywhere in it, their digests, and the journal that survives."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from blake3 import blake3

from converters.locking.file_locks import is_at
from converters.system.filesystem import flush, resize
from internlm_zoo.errors import IntegrityError
from internlm_zoo.files import File
from internlm_zoo.fs.homes import disk
from internlm_zoo.fs.ownership import Owner
from internlm_zoo.transfer import journal
from internlm_zoo.transfer.blocks import BLOCK, Blocks, Claim
from internlm_zoo.transfer.in_order_hasher import InOrderHasher
from internlm_zoo.transfer.journal import Journal, KeptBlock

_READ = 1 << 20
# How much of a slow connection's work a kill may cost.
_NOTE_SECONDS = 1.0
# Without a write; another process may have taken the file over meanwhile.
_SLEPT_SECONDS = 10.0


class WrongBlock(Exception):
    """A block is not the one that is known. Its bytes are forgotten already."""

    def __init__(self, block: int, expected: str, found: str) -> None:
        super().__init__(f"block {block}: expected blake3 {expected}, found {found}")
        self.block = block


class TakenOver(Exception):
    """Another process took this one for dead, and goes on with the file."""


class Partial:
    """Takes over what an earlier run left in `folder` under `key`, or begins; a context manager, thread-safe.

    known: the BLAKE3 of the file's blocks, where they were verified before. changed: tells of blocks that are
    filled and of stretches that are free. resumed: bytes an earlier run left. note: of what it left that is
    of no use. Whatever writes raises NoSpaceError on a full disk; what is there stays for the next run.
    """

    def __init__(self, folder: Path, key: str, wanted: File, known: Sequence[str] = ()) -> None:
        self.wanted = self._asked = wanted
        self.changed = threading.Condition(threading.RLock())
        self._looked = time.time()
        self._known = known
        with disk(folder):
            self._owner = Owner(folder)
            try:
                left = journal.claim(self._owner, folder, key, wanted)
                self.path, self.note = left.path, left.note
                self._file = self.path.open("r+b" if left.journal.blocks else "x+b", buffering=0)
                self._begin(left.journal)
            except BaseException:
                self._owner.leave()
                raise
        self.resumed = self.here

    def _begin(self, left: Journal) -> None:
        """With what is there, as far as it is what the journal says."""
        self.blocks = Blocks(self.wanted.size)
        self._kept: dict[int, KeptBlock] = {}
        self._sources: dict[int, set[str]] = {}
        self._block_hashers: dict[int, blake3] = {}
        self._noted: dict[int, float] = {}
        self._validators = dict(left.validators)
        for block, kept in left.blocks.items():
            self._resume(block, kept)
        self._journal = journal.Writer(self.path, replace(left, blocks=dict(self._kept)))
        expected = {block: kept.blake3 for block, kept in self._kept.items() if self.blocks.full(block)}
        self._digest_anew(expected)

    def _digest_anew(self, expected: Mapping[int, str]) -> None:
        self._file_hasher = InOrderHasher(
            self.path, self.wanted, self.blocks, self.changed, expected, self._forget
        )

    def _resume(self, block: int, kept: KeptBlock) -> None:
        """A block that is not full goes on where it stood, so its bytes are hashed now; the others later."""
        if kept.filled < self.blocks.length(block):
            hasher = self._hash(block, kept.filled)
            if hasher.hexdigest() != kept.blake3:
                return
            self._block_hashers[block] = hasher
        self._kept[block] = kept
        self._sources[block] = set(kept.authors)
        self.blocks.fill(block, kept.filled)

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            if not self._file.closed:
                self._leave()
        finally:
            self._owner.leave()

    def _leave(self) -> None:
        """To the next run, unless it was kept or dropped."""
        try:
            self.save()
        finally:
            self._close()
            if self.here:
                journal.release(self.path)
            else:
                journal.remove(self.path)

    @property
    def here(self) -> int:
        return self.blocks.here

    @property
    def complete(self) -> bool:
        return self.blocks.complete

    @property
    def sha256(self) -> str:
        return self._file_hasher.digest.sha256

    @property
    def digests(self) -> tuple[str, ...]:
        """The BLAKE3 of every block of a complete file."""
        return tuple(self._kept[block].blake3 for block in range(self.blocks.count))

    @property
    def sources(self) -> tuple[str, ...]:
        """Who brought something of it."""
        return tuple(sorted(set().union(*self._sources.values())))

    def sources_of(self, block: int) -> tuple[str, ...]:
        return tuple(sorted(self._sources.get(block, ())))

    def digest_of(self, block: int) -> str:
        return self._kept[block].blake3

    def size_is(self, size: int) -> None:
        """What somebody says who knows."""
        with self.changed:
            self.wanted = replace(self.wanted, size=size)
            self.blocks.size_is(size)
            for block in list(self._block_hashers):
                self._complete_if_full(block)

    def follow(self) -> None:
        """Digest in a thread of its own what arrives from now on, unless that is not worth one."""
        if self.blocks.size is None or self.blocks.size > BLOCK:
            self._file_hasher.start()

    def write(self, claim: Claim, offset: int, chunk: bytes, source: str) -> None:
        """What of a chunk, whose first byte belongs at `offset`, is in the claim. Raises WrongBlock,
        TakenOver."""
        with self.changed:
            self._check_owner()
            if not self.blocks.holds(claim):
                return
            end = offset + len(chunk) if claim.end is None else claim.end
            data = memoryview(chunk)[claim.position - offset : max(0, end - offset)]
            with disk(self.path):
                self._put(claim.position, data)
            while data:
                block, inside = divmod(claim.position, BLOCK)
                piece, data = data[: BLOCK - inside], data[BLOCK - inside :]
                self._block_hashers.setdefault(block, blake3()).update(piece)
                self._sources.setdefault(block, set()).add(source)
                self.blocks.advance(claim, len(piece))
                self._complete_if_full(block)
                self._note_at_times(block)

    def save(self) -> None:
        """Note what is here of blocks that are not full. On a full disk what the journal says already holds:
        the next run goes on from there."""
        with self.changed, suppress(OSError):
            for block in list(self._block_hashers):
                self._note(block)

    def reset(self) -> None:
        """Begin again at zero, in a new file: whoever else may have the old one open cannot harm the new
        one."""
        with self.changed:
            self.blocks.revoke()
        self._file_hasher.close()
        with disk(self.path), self.changed:
            self._journal.close()
            self._file.close()
            journal.remove(self.path)
            self._file = self.path.open("x+b", buffering=0)
            self.wanted = self._asked
            self._begin(Journal(self._asked))
            self.resumed = 0
            self.changed.notify_all()

    def replace_block(self, block: int, data: bytes, source: str) -> None:
        """Another version of a block that is here."""
        with self.changed, disk(self.path):
            self._put(block * BLOCK, memoryview(data))
            self._sources[block] = {source}
            self._keep(block, blake3(data).hexdigest())

    def forget_block(self, block: int) -> None:
        """It is not to be believed: the next run fetches it again."""
        with self.changed:
            self._forget(block)

    def reread(self) -> None:
        """Digest the file again from its start."""
        self._file_hasher.close()
        self._digest_anew({})
        self.follow()

    def validator(self, server: str) -> str | None:
        """The ETag of the bytes here, as `server` gave it."""
        return self._validators.get(server)

    def remember(self, server: str, validator: str | None) -> None:
        """Note the version that `server` is serving."""
        with self.changed, disk(self.path):
            if validator is not None and self._validators.get(server) != validator:
                self._validators[server] = validator
                self._journal.server(server, validator)

    def mismatch(self, check: Callable[[], None]) -> str | None:
        """What is wrong with the file, in words; None if it is what is wanted, or not all is here. Waits
        until what is here is digested. check: called meanwhile; what it raises ends the waiting."""
        with disk(self.path):
            self._file_hasher.settle(check)
        return self._file_hasher.digest.mismatch() if self.complete else None

    def keep(self) -> Path:
        """The finished file, its bytes on the disk for good, ready for its final name."""
        assert self.wanted.size is not None
        if not self.path.exists():
            raise IntegrityError(
                "the partial file was removed while it was written", self.path, "run it again"
            )
        with disk(self.path):
            if os.fstat(self._file.fileno()).st_size != self.wanted.size:
                resize(self._file.fileno(), self.wanted.size)
            self._flush()
        self._close()
        return self.path

    def _flush(self) -> None:
        """What failed to reach the disk once is not gone on from: it may be read today and gone tomorrow."""
        try:
            flush(self._file.fileno())
        except OSError:
            self._close()
            journal.remove(self.path)
            raise

    def _check_owner(self) -> None:
        """Nobody is taken for dead before a minute has passed."""
        now = time.time()
        if abs(now - self._looked) >= _SLEPT_SECONDS:
            self._looked = now
            if not is_at(self.path, self._file.fileno()):
                raise TakenOver

    def _put(self, position: int, data: memoryview) -> None:
        self._file.seek(position)
        while data:
            data = data[self._file.write(data) or 0 :]

    def _complete_if_full(self, block: int) -> None:
        if not self.blocks.full(block):
            return
        found = self._block_hashers.pop(block).hexdigest()
        if block < len(self._known) and self._known[block] != found:
            self._forget(block)
            raise WrongBlock(block, self._known[block], found)
        self._keep(block, found)
        self.changed.notify_all()

    def _keep(self, block: int, blake3: str) -> None:
        self._kept[block] = KeptBlock(self.blocks.filled(block), blake3, self.sources_of(block))
        with disk(self.path):
            self._journal.block(block, self._kept[block])

    def _note_at_times(self, block: int) -> None:
        """A process that is killed again and again may never fill a block."""
        now = time.monotonic()
        if block in self._block_hashers and now - self._noted.setdefault(block, now) >= _NOTE_SECONDS:
            self._noted[block] = now
            with disk(self.path):
                self._note(block)

    def _note(self, block: int) -> None:
        """What is here of a block that is not full."""
        if filled := self.blocks.filled(block):
            self._journal.block(
                block, KeptBlock(filled, self._block_hashers[block].hexdigest(), self.sources_of(block))
            )

    def _forget(self, block: int) -> None:
        self.blocks.fill(block, 0)
        self._sources.pop(block, None)
        self._kept.pop(block, None)
        self._journal.block(block, KeptBlock(0, "", ()))
        self.changed.notify_all()

    def _hash(self, block: int, amount: int) -> blake3:
        hasher = blake3()
        self._file.seek(block * BLOCK)
        while amount and (piece := self._file.read(min(amount, _READ))):
            hasher.update(piece)
            amount -= len(piece)
        return hasher

    def _close(self) -> None:
        self._file_hasher.close()
        self._journal.close()
        self._file.close()
