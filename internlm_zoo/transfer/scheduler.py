"""The endpoints of one file, how each has fared so far, and whose turn it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from internlm_zoo.errors import NotFoundError, ZooError, most_severe
from internlm_zoo.net.retry_policy import Backoff, RetryPolicy
from internlm_zoo.net.statuses import Recovery
from internlm_zoo.sources.base import Location
from internlm_zoo.transfer.blocks import BLOCK
from internlm_zoo.transfer.failures import TransferFailure
from internlm_zoo.transfer.values import LocatedEndpoint, SourceStatistics

# An endpoint is worth a change if it is so many times faster.
_FASTER = 4.0


@dataclass(eq=False)
class EndpointState(LocatedEndpoint):
    """How an endpoint has fared. connections: open now. rate: bytes per second of one of them, where it was
    measured. slow: left for that. whole: serves no parts of files. error: why it is out."""

    backoff: Backoff = field(default_factory=Backoff)
    failed_at: float = 0.0
    ready_at: float = 0.0
    connections: int = 0
    rate: float | None = None
    slow: bool = False
    whole: bool = False
    statistics: SourceStatistics = field(default_factory=SourceStatistics)
    error: ZooError | None = None

    @property
    def name(self) -> str:
        return self.endpoint.name

    def delivered(self, amount: int) -> None:
        self.fresh = False
        self.statistics += SourceStatistics(served=amount)
        self.backoff.delivered(amount, BLOCK)

    def record_failure(
        self, failure: TransferFailure, location: Location | None, began: float, retry_policy: RetryPolicy
    ) -> None:
        """What follows from a failure of what was asked at `began`. Several connections that fail
        together are one failure."""
        counts, now = began >= self.failed_at, time.monotonic()
        pause = self.backoff.pause(failure.recovery, failure.retry_after, retry_policy, counts=counts)
        self.failed_at = now
        self.statistics += SourceStatistics(retries=1)
        relocates = failure.recovery is Recovery.RELOCATE
        if pause is None or (relocates and not self.forget(location)):
            self.error = failure.error
        elif failure.recovery is Recovery.SWITCH:
            self.slow, self.backoff.failures = True, 0
        elif not relocates:
            self.ready_at = now + pause


def next_endpoint(endpoints: Sequence[EndpointState], *, spread: bool) -> EndpointState | None:
    """Whoever may be asked soonest; the first in line among equals. spread: rather one with fewer
    connections. None if all are out."""
    now = time.monotonic()

    def rank(state: EndpointState) -> tuple[object, ...]:
        return (
            max(state.ready_at, now),
            not state.endpoint.publishes_digest,
            state.whole,
            (state.slow, -(state.rate or 0.0) if state.slow else 0.0),
            state.connections if spread else 0,
        )

    return min((c for c in endpoints if c.error is None), key=rank, default=None)


def is_outpaced(state: EndpointState, endpoints: Sequence[EndpointState], retry_policy: RetryPolicy) -> bool:
    """Whether another endpoint is known to be much faster, or may be and this one is slow."""
    rate, now = state.rate or 0.0, time.monotonic()
    ready = (other for other in endpoints if other.error is None and other.ready_at <= now)
    return any(
        rate < retry_policy.modest if other.rate is None else other.rate > _FASTER * rate
        for other in ready
        if other is not state and other.endpoint.publishes_digest
    )


def combined_error(path: str, endpoints: Sequence[EndpointState]) -> ZooError:
    """The error that says why nobody delivered."""
    errors = {c.name: c.error for c in endpoints if c.error is not None}
    if not errors:
        return NotFoundError(f"no source has {path}")
    if len(errors) == 1:
        error = next(iter(errors.values()))
        return error if error.where else type(error)(error.what, path, error.fix)
    reasons = "; ".join(f"{name}: {error.what}" for name, error in errors.items())
    return most_severe(errors.values())(f"no source delivers {path}: {reasons}")
