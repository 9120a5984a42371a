"""Which bytes of a file are here, and who brings which of the others: values and arithmetic only.

A file is cut into blocks, of BLOCK bytes unless said otherwise. Each is filled from its start, by one
connection at a time, so what is here of it is one number. A claim is a stretch of blocks that one connection
has taken upon itself."""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 8 << 20
"""Bytes; what a kill may cost each connection, and the least that is repaired."""

_SEGMENT = 8
"""Blocks that one request asks for at most, unless the file has no more than that."""

_PARTS = 8
"""Into so many requests, at least, a file is cut that is larger than a segment."""

_WORTH = 4
"""Blocks. A stretch that is longer is worth sharing: whoever brings it then breaks off what is on its way
already."""


@dataclass(eq=False)
class Claim:
    """position: the next byte to bring. end: byte after the last; it shrinks when another connection takes
    the rest; None: to the end, wherever that is."""

    position: int
    end: int | None

    @property
    def done(self) -> bool:
        return self.end is not None and self.position >= self.end


class Blocks:
    """size: of the file, None until somebody says it. block_size: in bytes. here: bytes that are here. Not
    thread-safe."""

    def __init__(self, size: int | None, block_size: int = BLOCK) -> None:
        self.size = size
        self.block_size = block_size
        self.here = 0
        self._filled: dict[int, int] = {}
        self._claims: list[Claim] = []

    @property
    def complete(self) -> bool:
        return self.size is not None and self.here == self.size

    @property
    def claims(self) -> int:
        """Stretches that are under way."""
        return len(self._claims)

    @property
    def count(self) -> int:
        assert self.size is not None
        return -(-self.size // self.block_size)

    def filled(self, block: int) -> int:
        return self._filled.get(block, 0)

    def length(self, block: int) -> int:
        return (
            self.block_size
            if self.size is None
            else min(self.block_size, self.size - block * self.block_size)
        )

    def size_is(self, size: int) -> None:
        self.size = size
        for claim in self._claims:
            claim.end = size if claim.end is None else claim.end

    def full(self, block: int) -> bool:
        return self.filled(block) == self.length(block)

    def fill(self, block: int, amount: int) -> None:
        """Say what is here of a block."""
        self.here += amount - self.filled(block)
        self._filled[block] = amount

    def contiguous(self, position: int) -> int:
        """The first byte from `position` on that is not here."""
        while self.filled(position // self.block_size) == self.block_size:
            position += self.block_size - position % self.block_size
        block = position // self.block_size
        return max(position, block * self.block_size + self.filled(block))

    def claim(self, whole: bool = False) -> Claim | None:
        """The first stretch that nobody brings yet; None if there is none. whole: of any length."""
        if self.size is None:
            return None if self._claims else self._take(Claim(self.contiguous(0), None))
        first = next((block for block in range(self.count) if self._free(block)), None)
        if first is None:
            return None
        last = first + 1
        most = self.count if whole else self._segment()
        while last - first < most and last < self.count and not self.filled(last) and self._free(last):
            last += 1
        return self._take(
            Claim(first * self.block_size + self.filled(first), min(last * self.block_size, self.size))
        )

    def share(self) -> Claim | None:
        """The second half of the longest stretch under way, if it is worth that."""
        bounded = [claim for claim in self._claims if claim.end is not None]
        victim = max(bounded, key=lambda claim: claim.end - claim.position, default=None)  # type: ignore[operator]
        if victim is None or victim.end is None or victim.end - victim.position <= _WORTH * self.block_size:
            return None
        # Where a block begins: none is brought by two.
        middle = -(-(victim.position + victim.end) // 2 // self.block_size) * self.block_size
        rest = Claim(middle, victim.end)
        victim.end = middle
        return self._take(rest)

    def claim_all(self, claim: Claim) -> None:
        """The claim is the whole file now, and nobody else's counts."""
        self.revoke()
        claim.position, claim.end = 0, self.size
        self._take(claim)

    def extend(self, claim: Claim) -> None:
        """To the end of the file, if nobody else is at work and nothing beyond it is here."""
        if self._claims == [claim] and self.here <= claim.position:
            claim.end = self.size

    def give_back(self, claim: Claim) -> None:
        if claim in self._claims:
            self._claims.remove(claim)

    def revoke(self) -> None:
        """Nothing is here, and nobody brings anything."""
        self.here = 0
        self._filled.clear()
        for claim in self._claims:
            claim.end = claim.position
        self._claims.clear()

    def holds(self, claim: Claim) -> bool:
        return claim in self._claims

    def advance(self, claim: Claim, amount: int) -> None:
        """`amount` more bytes of it are here, all in one block."""
        block, inside = divmod(claim.position, self.block_size)
        self.fill(block, inside + amount)
        claim.position += amount

    def _take(self, claim: Claim) -> Claim:
        self._claims.append(claim)
        return claim

    def _free(self, block: int) -> bool:
        if self.full(block):
            return False
        start = block * self.block_size
        return not any(
            claim.position < start + self.block_size and (claim.end is None or start < claim.end)
            for claim in self._claims
        )

    def _segment(self) -> int:
        if self.count <= _SEGMENT:
            return self.count
        return max(1, min(_SEGMENT, self.count // _PARTS))
