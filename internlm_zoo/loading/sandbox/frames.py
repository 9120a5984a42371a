"""What goes between this process and its child: a length of four bytes, and so many bytes of JSON."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

MOST = 1 << 28
"""Bytes of one frame. The longest that is meant is a text of some megabytes as the ids of its tokens."""
_HEAD = 4


def send(stream: BinaryIO, message: dict[str, Any]) -> None:
    """Raises OSError where nobody reads any more."""
    body = json.dumps(message).encode()
    stream.write(len(body).to_bytes(_HEAD, "big") + body)
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, Any] | None:
    """The next one; None where there is no whole one any more, or none that is meant."""
    size = int.from_bytes(stream.read(_HEAD), "big")
    body = stream.read(size) if 0 < size <= MOST else b""
    return json.loads(body) if body and len(body) == size else None
