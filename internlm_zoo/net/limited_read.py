"""A whole answer in memory, within a limit: also of what it becomes where it is sent compressed.

Nobody asks for compression here, and some servers compress all the same. urllib3 would unpack it without a
limit (before 2.6).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import partial

import urllib3
from urllib3.exceptions import DecodeError

_PIECE = 1 << 18
# zlib's windowBits: gzip's header, zlib's, and (some servers mean that by deflate) none.
_GZIP, _ZLIB, _BARE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_CODINGS = {"gzip": (_GZIP,), "x-gzip": (_GZIP,), "deflate": (_ZLIB, _BARE)}
_SHOWN = 40


def read_whole(answer: urllib3.BaseHTTPResponse, most: int) -> bytes:
    """The bytes of an answer whose body was not read yet, of `most` at most, compressed and unpacked.

    Raises DecodeError with a clause that says what is wrong with them, and what reading raises.
    """
    coding = answer.headers.get("Content-Encoding", "").strip().lower()
    raw = _limited(iter(partial(answer.read, _PIECE, decode_content=False), b""), most)
    if coding in ("", "identity"):
        return raw
    if coding not in _CODINGS:
        raise DecodeError(f"it sends the content coding {coding[:_SHOWN]!r}, which nobody asked for")
    for bits in _CODINGS[coding]:
        try:
            return _limited(_unpacked(raw, bits), most)
        except zlib.error:
            continue
    raise DecodeError(f"what it sends is not in the content coding {coding} that it names")


def _limited(pieces: Iterator[bytes], most: int) -> bytes:
    whole = bytearray()
    for piece in pieces:
        whole += piece
        if len(whole) > most:
            raise DecodeError(f"it sends more than {most >> 20} MiB")
    return bytes(whole)


def _unpacked(raw: bytes, bits: int) -> Iterator[bytes]:
    """Piece by piece. Raises zlib.error, also for what follows the end."""
    unpacker = zlib.decompressobj(bits)
    while not unpacker.eof:
        piece = unpacker.decompress(raw, _PIECE)
        raw = unpacker.unconsumed_tail
        if not (piece or raw or unpacker.eof):
            raise zlib.error("it ends early")
        yield piece
    if unpacker.unused_data:
        raise zlib.error("more follows")
