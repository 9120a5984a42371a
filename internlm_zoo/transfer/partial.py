"""A file on its way: bytes that arrive anywhere in it, their digests, and the journal that survives."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from blake3 import blake3

from converters.locking.file_locks import is_at
from converters.system.filesystem import flush, resize
from internlm_zoo.errors import IntegrityError
from internlm_zoo.files import Fact, File
from internlm_zoo.fs.disk import disk
from internlm_zoo.fs.ownership import Owner
from internlm_zoo.transfer import journal
from internlm_zoo.transfer.block_records import BlockRecords
from internlm_zoo.transfer.blocks import BLOCK, Claim
from internlm_zoo.transfer.in_order_hasher import InOrderHasher
from internlm_zoo.transfer.journal import Journal

# Without a write; another process may have taken the file over meanwhile.
_SLEPT_SECONDS = 10.0


class TakenOver(Exception):
    """Another process took this one for dead, and goes on with the file."""


class Partial:
    """Takes over what an earlier run left in `folder` under `key`, or begins; a context manager, thread-safe.

    known: the BLAKE3 of the file's blocks, where they were verified before. block_size: in bytes. changed:
    guards all of it, and tells of blocks that are filled and of stretches that are free. resumed: bytes an
    earlier run left. note: of what it left that is of no use. Whatever writes raises NoSpaceError on a full
    disk; what is there stays for the next run."""

    def __init__(
        self, folder: Path, key: str, wanted: File, known: Sequence[str] = (), block_size: int = BLOCK
    ) -> None:
        self.wanted = self._asked = wanted
        self.changed = threading.Condition(threading.RLock())
        self._looked = time.time()
        self._known = known
        with disk(folder):
            self._owner = Owner(folder)
            try:
                left = journal.claim(self._owner, folder, key, Journal(wanted, block_size))
                self.path, self.note = left.path, left.note
                self._file = self.path.open("r+b" if left.journal.blocks else "x+b", buffering=0)
                self._begin(left.journal)
            except BaseException:
                self._owner.leave()
                raise
        self.resumed = self.blocks.here

    def _begin(self, left: Journal) -> None:
        """With what is there, as far as it is what the journal says."""
        self.records = BlockRecords(self.path, self._file, left, self._known)
        self.blocks = self.records.blocks
        self._digest_anew(self.records.full)

    def _digest_anew(self, expected: Mapping[int, str]) -> None:
        self._file_hasher = InOrderHasher(
            self.path, self.wanted, self.blocks, self.changed, expected, self.forget_block
        )

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
            if self.blocks.here:
                journal.release(self.path)
            else:
                journal.remove(self.path)

    @property
    def sha256(self) -> str:
        return str(self._file_hasher.digest.digests.sha256)

    def size_is(self, size: int) -> None:
        """What somebody says who knows."""
        with self.changed:
            self.wanted = replace(self.wanted, size=size)
            self.records.size_is(size)
            self.changed.notify_all()

    def follow(self) -> None:
        """Digest in a thread of its own what arrives from now on, unless that is not worth one."""
        if self.blocks.size is None or self.blocks.size > self.blocks.block_size:
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
                block, inside = divmod(claim.position, self.blocks.block_size)
                room = self.blocks.block_size - inside
                piece, data = data[:room], data[room:]
                self.blocks.advance(claim, len(piece))
                if self.records.add(block, piece, source):
                    self.changed.notify_all()

    def save(self) -> None:
        with self.changed:
            self.records.save()

    def reset(self) -> None:
        """Begin again at zero, in a new file: whoever else may have the old one open cannot harm the new
        one."""
        with self.changed:
            self.blocks.revoke()
        self._file_hasher.close()
        with disk(self.path), self.changed:
            self.records.close()
            self._file.close()
            journal.remove(self.path)
            self._file = self.path.open("x+b", buffering=0)
            self.wanted = self._asked
            self._begin(Journal(self._asked, self.blocks.block_size))
            self.resumed = 0
            self.changed.notify_all()

    def replace_block(self, block: int, data: bytes, source: str) -> None:
        """Another version of a block that is here."""
        with self.changed, disk(self.path):
            self._put(block * self.blocks.block_size, memoryview(data))
            self.records.replace(block, blake3(data).hexdigest(), source)

    def forget_block(self, block: int) -> None:
        """It is not to be believed: the next run fetches it again."""
        with self.changed:
            self.records.forget(block)
            self.changed.notify_all()

    def reread(self) -> None:
        """Digest the file again from its start."""
        self._file_hasher.close()
        self._digest_anew({})
        self.follow()

    def remember(self, server: str, validator: str | None) -> None:
        """Note the version that `server` is serving."""
        with self.changed:
            self.records.remember(server, validator)

    def mismatch(self, check: Callable[[], None]) -> Fact | None:
        """What is wrong with the file; None if it is what is wanted, or not all is here. Waits
        until what is here is digested. check: called meanwhile; what it raises ends the waiting."""
        with disk(self.path):
            self._file_hasher.settle(check)
        found = self._file_hasher.digest.digests
        return self.wanted.digests.conflict(found) if self.blocks.complete else None

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

    def _close(self) -> None:
        self._file_hasher.close()
        self.records.close()
        self._file.close()
