"""CRCs of bytes that are told run by run, held against zlib's of the whole."""

from __future__ import annotations

import zlib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from converters.formats.crc import Checksum, combine


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_two_runs_have_the_crc_of_both_together(first, second):
    assert combine(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


def test_a_run_longer_than_four_gigabytes():
    """Zeros to the length of 5 GB, squared up from 1 MB: x^n by another way than the one under test."""
    length, crc = 1 << 20, zlib.crc32(bytes(1 << 20))
    for _ in range(13):
        crc, length = combine(crc, crc, length), 2 * length
    expected, piece = 0, bytes(1 << 26)
    for _ in range(length >> 26):
        expected = zlib.crc32(piece, expected)
    assert crc == expected


@given(st.binary(min_size=1, max_size=400), st.data())
def test_runs_in_any_order(content, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(content)), max_size=8)) | {0, len(content)})
    runs = list(pairwise(cuts))
    start = data.draw(st.integers(0, 1 << 40))
    checksum = Checksum()
    for a, b in data.draw(st.permutations(runs)):
        checksum.add(start + a, memoryview(content)[a:b])
    assert checksum.value() == zlib.crc32(content)
