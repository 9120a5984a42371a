"""`--max-rate`: all connections together bring no more than that, and nothing is lost by waiting."""

from __future__ import annotations

import pytest

from internlm_zoo.errors import UsageError
from internlm_zoo.transfer.rate import Rate, rate_of
from tests.timing import VirtualTime

PER_SECOND = 1_000_000


@pytest.mark.parametrize("connections", [1, 4, 8, 32])
@pytest.mark.parametrize("delay", [0.0, 0.02])
def test_the_rate_is_kept_within_a_twentieth_whatever_the_number_of_connections(connections, delay):
    """A source that always has more, each read of it so late, for ten seconds."""
    time, came = VirtualTime(), []
    rate, end = Rate(PER_SECOND, time.clock, time.sleep), time.clock() + 10

    def read(amount):
        time.sleep(delay)
        return bytes(amount)

    def drain():
        limited = rate.limited(read)
        while time.clock() < end:
            came.append(len(limited(1 << 20)))

    time.run(*[drain] * connections)
    assert 0.95 <= sum(came) / PER_SECOND / (time.clock() - end + 10) <= 1.05


def test_a_second_without_bytes_is_not_made_up_for():
    time = VirtualTime()
    read = Rate(PER_SECOND, time.clock, time.sleep).limited(bytes)

    def rest_and_drain():
        time.sleep(5)
        total, start = 0, time.clock()
        while time.clock() < start + 1:
            total += len(read(1 << 20))
        assert total <= 1.3 * PER_SECOND

    time.run(rest_and_drain)


@pytest.mark.parametrize("text", ["fast", "0MB", "5KB", "-1MB"])
def test_a_rate_that_is_none_is_refused(text):
    with pytest.raises(UsageError):
        rate_of(text)
