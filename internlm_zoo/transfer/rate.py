"""Holds all connections of a run together to a number of bytes per second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from converters.formats.shards import parse_size
from internlm_zoo.errors import UsageError

LEAST = 10_000
"""Bytes per second; below that every connection would count as stalled."""

_READS_PER_SECOND = 20  # so many short reads: none takes its second's share at once
# Time that passes between files, or that a sleep takes too long, may be made up for; so much of it.
_CREDIT_SECONDS = 0.2


class Rate:
    """Thread-safe. What is read is paid for afterwards, by waiting, so a run is at most one read ahead."""

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._per_second, self._clock, self._sleep = per_second, clock, sleep
        self._lock = threading.Lock()
        self._paid_until = clock()

    def limited(self, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
        most = max(1, int(self._per_second / _READS_PER_SECOND))

        def slow(amount: int) -> bytes:
            data = read(min(amount, most))
            self._sleep(self._price(len(data)))
            return data

        return slow

    def _price(self, amount: int) -> float:
        """Seconds to wait for so many bytes, all connections counted."""
        with self._lock:
            now = self._clock()
            self._paid_until = max(self._paid_until, now - _CREDIT_SECONDS) + amount / self._per_second
            return max(0.0, self._paid_until - now)


def rate_of(text: str | int | None) -> Rate | None:
    """A size per second such as "20MB". Raises UsageError for what is none, or too little."""
    if text is None:
        return None
    per_second = parse_size(text)
    if per_second < LEAST:
        raise UsageError(f"{text} per second is too slow", "`max_rate`", f"give at least {LEAST // 1000}KB")
    return Rate(per_second)
