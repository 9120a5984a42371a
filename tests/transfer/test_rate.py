"""`--max-rate`: all connections together bring no more than that, and nothing is lost by waiting."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from internlm_zoo.errors import UsageError
from internlm_zoo.transfer.rate import Rate, rate_of


@pytest.mark.parametrize("connections", [1, 4])
def test_no_more_than_the_rate_comes_whatever_the_number_of_connections(connections):
    """A source that always has more, read by threads for a second."""
    per_second = 1_000_000
    rate, start = Rate(per_second), time.monotonic()

    def drain():
        read, total = rate.limited(bytes), 0
        while time.monotonic() < start + 1.5:
            total += len(read(1 << 20))
        return total

    with ThreadPoolExecutor(connections) as pool:
        total = sum(job.result() for job in [pool.submit(drain) for _ in range(connections)])
    assert total <= 1.05 * per_second * (time.monotonic() - start) + connections * per_second / 20


@pytest.mark.parametrize("text", ["fast", "0MB", "5KB", "-1MB"])
def test_a_rate_that_is_none_is_refused(text):
    with pytest.raises(UsageError):
        rate_of(text)
