"""The digest of a file whose bytes pass roughly in order: what comes too early waits, within limits."""

from __future__ import annotations

import hashlib
import heapq

from internlm_zoo.files import Fact, File, spoken
from internlm_zoo.hashing import Hasher

LIMIT = 112 << 20
"""Bytes that may wait for those before them."""


class OutOfOrderHasher:
    """position: all bytes before it were digested. lost: too much would have to wait, or what passed is not
    all that was read, so there will be no digest. md5: of a side-car, in hex."""

    def __init__(self, wanted: File, md5: str | None = None) -> None:
        self.position = 0
        self.lost = False
        self._wanted = wanted
        self._md5 = md5
        self._digest = Hasher(wanted.algorithms, wanted.size)
        self._sidecar = hashlib.md5(usedforsecurity=False)
        self._early: list[tuple[int, bytes]] = []
        self._waiting = 0

    def add(self, offset: int, data: bytes) -> None:
        """Bytes that passed; again or in any order."""
        if self.lost or offset + len(data) <= self.position:
            return
        if offset > self.position:
            self._wait(offset, data)
            return
        self._take(data[self.position - offset :])
        while self._early and self._early[0][0] <= self.position:
            first, early = heapq.heappop(self._early)
            self._waiting -= len(early)
            self._take(early[self.position - first :])

    def give_up(self) -> None:
        """There will be no digest."""
        self.lost = True
        self._early.clear()

    def missing(self, end: int) -> tuple[int, int]:
        """The first range up to `end` that has not passed; empty at the end."""
        return self.position, min(self._early[0][0], end) if self._early else end

    @property
    def sha256(self) -> str:
        """Of all bytes before `position`."""
        return str(self._digest.digests.sha256)

    @property
    def checked_against(self) -> str | None:
        """What the bytes are held against: the best digest that was published."""
        best = self._wanted.strongest or ("md5" if self._md5 else None)
        return best and spoken(best)

    def mismatch(self) -> Fact | None:
        """What is not as wanted; None if all is."""
        if self._md5 is not None and self._sidecar.hexdigest() != self._md5:
            return Fact("md5", self._md5, self._sidecar.hexdigest())
        return self._wanted.digests.conflict(self._digest.digests)

    def _take(self, data: bytes) -> None:
        self._digest.update(data)
        if self._md5 is not None:
            self._sidecar.update(data)
        self.position += len(data)

    def _wait(self, offset: int, data: bytes) -> None:
        heapq.heappush(self._early, (offset, data))
        self._waiting += len(data)
        if self._waiting > LIMIT:
            self.give_up()
