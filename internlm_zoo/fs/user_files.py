"""What a person names to be read: a file, or a pipe, as a shell makes of `<(pass show hub)`.

No device but the empty one, no terminal and no socket; and a pipe that nobody writes to is not waited for for
ever.
"""

from __future__ import annotations

import errno
import os
import selectors
import time
from pathlib import Path

from converters.formats.access import regular

PIPE_SECONDS = 30.0
"""Seconds until a pipe has to have come to its end: somebody may have to be asked before."""


def content_given(path: Path, most: int) -> bytes:
    """Its first bytes, `most` at most. Raises OSError; TimeoutError for a pipe that does not end in time."""
    if path.is_fifo():
        return _piped(path, most)
    if os.path.realpath(path) == os.devnull:
        return b""
    with open(path, "rb", opener=regular) as file:
        return file.read(most)


def _piped(path: Path, most: int) -> bytes:
    data, end = b"", time.monotonic() + PIPE_SECONDS
    with open(path, "rb", buffering=0, opener=_at_once) as file, selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_READ)
        while len(data) < most:
            if not selector.select(max(0.0, end - time.monotonic())):
                what = f"it is a pipe, and nobody has written to its end for {PIPE_SECONDS:.0f} s"
                raise TimeoutError(errno.ETIMEDOUT, what, str(path))
            if not (part := os.read(file.fileno(), most - len(data))):
                break
            data += part
    return data


def _at_once(path: str, flags: int) -> int:
    """Not waiting for who writes to a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
