"""CRC-32 of bytes that come in any order: each run by zlib, runs joined by their lengths.

`combine` is zlib's crc32_combine (crc32.c, 1.3), which the standard library does not offer.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31


def combine(first: int, second: int, length: int) -> int:
    """The CRC of two runs of bytes, one after the other. length: bytes of the second."""
    return _multiply(_power(length), first) ^ second


def _multiply(a: int, b: int) -> int:
    """The product of two polynomials modulo CRC-32's, their highest bit standing for x^0."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product


@lru_cache(maxsize=256)
def _power(length: int) -> int:
    """x to the bits of so many bytes."""
    power, square = _ONE, _ONE >> 8  # x^0, and x^8: one byte
    while length:
        if length & 1:
            power = _multiply(square, power)
        square = _multiply(square, square)
        length >>= 1
    return power


class Checksum:
    """Of a range of bytes, told run by run. Runs that follow each other cost no more than zlib."""

    def __init__(self) -> None:
        self._runs: dict[int, tuple[int, int, int]] = {}  # end -> (start, end, crc)

    def add(self, offset: int, data: memoryview) -> None:
        start, _, crc = self._runs.pop(offset, (offset, offset, 0))
        end = offset + len(data)
        self._runs[end] = start, end, zlib.crc32(data, crc)

    def value(self) -> int:
        """Of all of it, every byte having been told once."""
        total = 0
        for start, end, crc in sorted(self._runs.values()):
            total = combine(total, crc, end - start)
        return total
