"""The origins of one file, how each has fared so far, and whose turn it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from internlm_zoo.errors import (
    AccessError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    UnsupportedError,
    ZooError,
)
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.sources.base import Location
from internlm_zoo.transfer.blocks import BLOCK
from internlm_zoo.transfer.failures import Recovery, TransferFailure, gravest
from internlm_zoo.transfer.values import Endpoint, SourceStatistics

# An origin is worth a change if it is so many times faster.
_FASTER = 4.0


@dataclass(eq=False)
class EndpointState:
    """An origin and how it has fared. location: None: to be asked for. fresh: asked for since it last
    delivered a byte. failures: in a row, without a block in between. connections: open now. rate: bytes per
    second of one of them, where it was measured. slow: left for that. whole: serves no parts of files.
    doubts: how often it sent something that may not have been meant. error: why it is out."""

    origin: Endpoint
    location: Location | None = None
    fresh: bool = True
    failures: int = 0
    failed_at: float = 0.0
    ready_at: float = 0.0
    since: int = 0
    connections: int = 0
    rate: float | None = None
    slow: bool = False
    whole: bool = False
    doubts: int = 0
    service: SourceStatistics = field(default_factory=SourceStatistics)
    error: ZooError | None = None

    @property
    def name(self) -> str:
        return self.origin.name

    def locate(self) -> Location:
        """Where its bytes are. Raises Refusal."""
        location = self.location
        if location is None or (location.expires is not None and location.expires <= time.time()):
            try:
                location = self.origin.locate()
            except (IntegrityError, NotFoundError, AccessError, NetworkError, UnsupportedError) as error:
                raise TransferFailure(error, Recovery.LEAVE) from error
            self.location, self.fresh = location, True
        return location

    def delivered(self, amount: int) -> None:
        self.fresh = False
        self.service += SourceStatistics(served=amount)
        self.since += amount
        if self.since >= BLOCK:
            self.since = self.failures = 0

    def bear(
        self, refusal: TransferFailure, location: Location | None, began: float, patience: RetryPolicy
    ) -> None:
        """Take the consequences of a refusal of what was asked at `began`. Several connections that fail
        together are one failure."""
        now = time.monotonic()
        if began >= self.failed_at:
            self.failures += 1
        self.failed_at, self.since = now, 0
        self.service += SourceStatistics(retries=1)
        asks = refusal.remedy is Recovery.ASK
        stale = location is not self.location
        self.doubts += refusal.remedy is Recovery.DOUBT
        if (
            refusal.remedy is Recovery.LEAVE
            or (refusal.remedy is Recovery.DOUBT and self.doubts > 1)
            or (asks and self.fresh and not stale)
            or self.failures >= patience.tries
            or refusal.after > patience.longest_asked
        ):
            self.error = refusal.error
        elif asks:
            self.location = self.location if stale else None
        elif refusal.remedy is Recovery.YIELD:
            self.slow, self.failures = True, 0
        else:
            self.ready_at = now + max(refusal.after, patience.pause(self.failures))


def next_of(contestants: Sequence[EndpointState], *, spread: bool) -> EndpointState | None:
    """Whoever may be asked soonest; the first in line among equals. spread: rather one with fewer
    connections. None if all are out."""
    now = time.monotonic()

    def rank(contestant: EndpointState) -> tuple[object, ...]:
        return (
            max(contestant.ready_at, now),
            not contestant.origin.sure,
            contestant.whole,
            (contestant.slow, -(contestant.rate or 0.0) if contestant.slow else 0.0),
            contestant.connections if spread else 0,
        )

    return min((c for c in contestants if c.error is None), key=rank, default=None)


def is_outpaced(
    contestant: EndpointState, contestants: Sequence[EndpointState], patience: RetryPolicy
) -> bool:
    """Whether another origin is known to be much faster, or may be and this one is slow."""
    rate, now = contestant.rate or 0.0, time.monotonic()
    others = [
        other
        for other in contestants
        if other is not contestant and other.error is None and other.ready_at <= now and other.origin.sure
    ]
    return any(
        rate < patience.modest if other.rate is None else other.rate > _FASTER * rate for other in others
    )


def verdict(path: str, contestants: Sequence[EndpointState]) -> ZooError:
    """The error that says why nobody delivered."""
    errors = {c.name: c.error for c in contestants if c.error is not None}
    if not errors:
        return NotFoundError(f"no source has {path}")
    if len(errors) == 1:
        error = next(iter(errors.values()))
        return error if error.where else type(error)(error.what, path, error.fix)
    reasons = "; ".join(f"{name}: {error.what}" for name, error in errors.items())
    return gravest(errors.values())(f"no source delivers {path}: {reasons}")
