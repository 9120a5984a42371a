"""Counts what a long run tells of itself, and answers at any moment how far it is and how fast."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from internlm_zoo.progress import Progress

# Rates are of so many seconds, looked at in steps; a source that was silent for longer is not named.
_WINDOW = 10.0
_STEP = 0.25


@dataclass(frozen=True)
class Amount:
    """Bytes of one file or of all. resumed: those of `done` that were there before. rate: bytes per second,
    None while it is too early to say. sources: hubs that deliver."""

    done: int
    total: int | None
    resumed: int = 0
    rate: float | None = None
    sources: tuple[str, ...] = ()

    @property
    def seconds_left(self) -> float | None:
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.done) / self.rate


@dataclass(frozen=True)
class ProgressView:
    """One moment. active: by name, in the order they began. files: how many there are in all, None if nobody
    said."""

    active: dict[str, Amount]
    finished: int
    files: int | None
    whole: Amount


class ProgressState(Progress):
    """A Progress that draws nothing itself. clock: seconds, as time.monotonic."""

    _past: Amount

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._throughput: _Throughput | None = None
        self._reset(None, None)

    def plan(self, files: int, total: int | None) -> None:
        with self._lock:
            self._reset(files, total)

    def start(self, task: str, total: int | None, done: int = 0) -> None:
        with self._lock:
            now = self._clock()
            self._throughput = self._throughput or _Throughput(now)
            self._active[task] = _Count(total, done, done, _Throughput(now))

    def advance(self, task: str, amount: int, source: str | None = None) -> None:
        """A task that is over is not counted on: a thread may tell of its last bytes late."""
        with self._lock:
            count = self._active.get(task)
            if count is None or self._throughput is None:
                return
            now = self._clock()
            count.add(amount, source, now)
            self._throughput.add(amount, now)

    def finish(self, task: str) -> None:
        with self._lock:
            count = self._active.pop(task, None)
            if count is None:
                return
            self._finished += 1
            past = self._past
            total = _sum(past.total, count.total)
            self._past = Amount(past.done + count.done, total, past.resumed + count.resumed)

    def view(self) -> ProgressView:
        with self._lock:
            now = self._clock()
            active = {name: count.amount(now) for name, count in self._active.items()}
            return ProgressView(active, self._finished, self._files, self._whole(list(active.values()), now))

    def _reset(self, files: int | None, total: int | None) -> None:
        self._files, self._planned, self._finished = files, total, 0
        self._active: dict[str, _Count] = {}
        self._past = Amount(0, 0)

    def _whole(self, active: list[Amount], now: float) -> Amount:
        total = self._planned
        if self._files is None:
            total = self._past.total
            for amount in active:
                total = _sum(total, amount.total)
        return Amount(
            done=self._past.done + sum(amount.done for amount in active),
            total=total,
            resumed=self._past.resumed + sum(amount.resumed for amount in active),
            rate=self._throughput.rate(now) if self._throughput else None,
            sources=tuple(dict.fromkeys(name for amount in active for name in amount.sources)),
        )


class _Throughput:
    """How fast bytes come lately; those that have to come again do not count against it."""

    def __init__(self, now: float) -> None:
        self._sum = 0
        self._marks = deque([(now, 0)])  # when, and the sum then; the last one is of the last bytes

    def add(self, amount: int, now: float) -> None:
        self._sum += max(0, amount)
        if len(self._marks) > 1 and now - self._marks[-2][0] < _STEP:
            self._marks.pop()
        self._marks.append((now, self._sum))

    def rate(self, now: float) -> float | None:
        while len(self._marks) > 1 and self._marks[1][0] <= now - _WINDOW:
            self._marks.popleft()
        since, before = self._marks[0]
        return (self._sum - before) / (now - since) if now - since >= _STEP else None


@dataclass
class _Count:
    """delivered_at: when each source last delivered."""

    total: int | None
    done: int
    resumed: int
    throughput: _Throughput
    delivered_at: dict[str, float] = field(default_factory=dict)

    def add(self, amount: int, source: str | None, now: float) -> None:
        self.done += amount
        self.resumed = max(0, min(self.resumed, self.done))
        self.throughput.add(amount, now)
        if source is not None and amount > 0:
            self.delivered_at[source] = now

    def amount(self, now: float) -> Amount:
        lately = tuple(source for source, when in self.delivered_at.items() if now - when <= _WINDOW)
        return Amount(self.done, self.total, self.resumed, self.throughput.rate(now), lately)


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
