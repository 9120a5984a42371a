"""CRCs of bytes that are told run by run, held against zlib's of the whole."""

from __future__ import annotations

import zlib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from converters.formats.crc import Checksum


class Zeros:
    """More of them than memory holds."""

    def __init__(self, runs):
        self.piece, self.runs = memoryview(bytes(1 << 26)), runs

    def crc(self):
        total = 0
        for _ in range(self.runs):
            total = zlib.crc32(self.piece, total)
        return total


def test_an_entry_longer_than_four_gigabytes_told_from_both_ends():
    zeros = Zeros(65)
    checksum = Checksum()
    for n in (*range(33, 65), *range(33)):
        checksum.add(n << 26, zeros.piece)
    assert checksum.value() == zeros.crc()


@given(st.binary(min_size=1, max_size=400), st.data())
def test_runs_in_any_order(content, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(content)), max_size=8)) | {0, len(content)})
    runs = list(pairwise(cuts))
    start = data.draw(st.integers(0, 1 << 40))
    checksum = Checksum()
    for a, b in data.draw(st.permutations(runs)):
        checksum.add(start + a, memoryview(content)[a:b])
    assert checksum.value() == zlib.crc32(content)
