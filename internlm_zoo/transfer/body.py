"""One answer with bytes in it: what it claims to hold, and its chunks as they arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from internlm_zoo.files import File
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.transfer.failures import PAGE, placeholder, suspect, timed_out, truncated, violation

# Larger ones are slower: the system hands out fresh memory for each.
CHUNK = 1 << 18


@dataclass
class Body:
    """start: where in the file its first byte belongs. length: bytes it says it holds; total: bytes it says
    the whole file has; both None where it does not say. validator: its ETag. read(n): up to n
    bytes as soon as some are there, b"" at the end, raises TransferFailure. is_html: it calls itself a page.
    certain: says in so many words that there is nothing, if there is nothing."""

    url: str
    start: int
    length: int | None
    total: int | None
    validator: str | None
    read: Callable[[int], bytes]
    close: Callable[[], None]
    is_html: bool = False
    certain: bool = False
    _first: bytes | None = None

    @property
    def end(self) -> int | None:
        """Byte after its last, where it says how long it is."""
        return None if self.length is None else self.start + self.length

    def begin(self, wanted: File, *, again: bool = True) -> None:
        """Look at the first bytes, which are kept for `chunks`. Raises TransferFailure for a page or a
        pointer in place of the file, or another length than is known. again: it was asked for before; if not,
        an answer without a byte is doubted where nobody has said how long the file is."""
        if self._first is not None:
            return
        self._first = self.read(CHUNK)
        self._judge(self._first, wanted)
        if not (self._first or self.certain or again) and wanted.size is None:
            raise suspect(self.url, f"sends nothing of {wanted.path}", is_usual=True)

    def chunks(self, wanted: File, retry_policy: RetryPolicy) -> Iterator[bytes]:
        """The bytes, held against what is known of the file: raises TransferFailure as `begin`, and for too
        few or too many bytes, or a connection slower than the policy allows. Read to the end, the connection
        serves the next request."""
        self.begin(wanted)
        chunk, self._first = self._first or b"", b""
        most = wanted.size if wanted.size is not None else self.total
        position, throughput = self.start, Throughput(retry_policy.stall)
        while chunk:
            position += len(chunk)
            if most is not None and position > most:
                raise violation(self.url, f"sends more than the {most:,} bytes of {wanted.path}")
            yield chunk
            rate = throughput.add(len(chunk))
            if rate is not None and rate < retry_policy.slowest:
                raise timed_out(self.url, f"{rate:,.0f} bytes/s is too slow")
            chunk = self.read(CHUNK)
        if self.end is not None and position < self.end:
            raise truncated(self.url, wanted.path, position, self.end)

    def _judge(self, first: bytes, wanted: File) -> None:
        if sent := self._placeholder(first, wanted):
            raise (suspect if sent == PAGE else violation)(self.url, f"sends {sent} {wanted.path}")
        if self.total == 0 and wanted.size:
            raise suspect(self.url, f"says {wanted.path} is empty, and it has {wanted.size:,} bytes")
        if wanted.size is not None and self.total not in (None, wanted.size):
            raise violation(self.url, f"says {wanted.path} has {self.total:,} bytes, not {wanted.size:,}")
        if wanted.size is None and self.total is None:
            what = f"does not say how long {wanted.path} is, so it could be cut, or never end"
            raise violation(self.url, what)

    def _placeholder(self, first: bytes, wanted: File) -> str | None:
        """What comes instead of the file. Of the right length it is the file until its digest says
        otherwise."""
        right_length = wanted.size is not None and self.total == wanted.size
        if right_length or wanted.path.endswith((".html", ".htm")):
            return None
        return PAGE if self.is_html else placeholder(first) if self.start == 0 else None


class Throughput:
    """The bytes per second of a connection, over one window of so many seconds after the other."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._since, self._bytes = time.monotonic(), 0

    def add(self, amount: int) -> float | None:
        """The rate, when a window ends."""
        self._bytes += amount
        seconds = time.monotonic() - self._since
        if seconds < self._window:
            return None
        rate = self._bytes / seconds
        self._since, self._bytes = time.monotonic(), 0
        return rate
