"""A time by which something must have come, whatever else comes meanwhile.

A socket's own timeout is for silence. Whoever sends a byte now and then (of a header, a redirect's body, the
size of a chunk), or `100 Continue` for ever, is never silent. So our sockets look at the clock of the thread
that reads them before each wait, and that thread is told: nothing is left behind that has to end by itself.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


class DeadlineExceeded(TimeoutError):
    """It says what did not come, within which time."""


@dataclass(frozen=True)
class Deadline:
    """seconds: it was set for. at: when it passes, by time.monotonic. missing: what there is until then, as
    "no byte of the file"."""

    seconds: float
    at: float
    missing: str

    @classmethod
    def after(cls, seconds: float, missing: str) -> Deadline:
        return cls(seconds, time.monotonic() + seconds, missing)

    @property
    def left(self) -> float:
        """Seconds, more than none. Raises DeadlineExceeded."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise self.exceeded
        return left

    @property
    def exceeded(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"{self.missing} within {self.seconds:g} s")

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self.at

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Once it has passed, this thread's waits for our sockets raise DeadlineExceeded; of several
        the first counts."""
        outer = _current.get()
        token = _current.set(self if outer is None or self.at < outer.at else outer)
        try:
            yield
        finally:
            _current.reset(token)


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def capped(seconds: float | None) -> float | None:
    """So many seconds, or those that this thread has left. Raises DeadlineExceeded."""
    deadline = _current.get()
    if deadline is None:
        return seconds
    return deadline.left if seconds is None else min(seconds, deadline.left)


class _WithDeadline:
    """Mixed into sockets: a wait ends after the socket's timeout, or at the deadline of who waits."""

    _timeout: float | None = None

    def settimeout(self, value: float | None) -> None:
        self._timeout = value
        super().settimeout(value)  # type: ignore[misc]

    def recv(self, *args: Any) -> bytes:
        return self._in_time(super().recv, *args)  # type: ignore[misc,no-any-return]

    def recv_into(self, *args: Any) -> int:
        return self._in_time(super().recv_into, *args)  # type: ignore[misc,no-any-return]

    def sendall(self, *args: Any) -> None:
        self._in_time(super().sendall, *args)  # type: ignore[misc]

    def do_handshake(self, *args: Any) -> None:
        self._in_time(super().do_handshake, *args)  # type: ignore[misc]

    def _in_time(self, wait: Callable[..., T], *args: Any) -> T:
        if self.gettimeout() == 0:  # type: ignore[attr-defined]
            return wait(*args)  # it does not wait
        deadline, seconds = _current.get(), capped(self._timeout)
        super().settimeout(seconds)  # type: ignore[misc]
        try:
            return wait(*args)
        except TimeoutError:
            if deadline is None or seconds == self._timeout:
                raise
            raise deadline.exceeded from None


class DeadlineSocket(_WithDeadline, socket.socket):
    """See `with_deadline`."""


class DeadlineTlsSocket(_WithDeadline, ssl.SSLSocket):
    """What an SSLContext is to make of such a socket (its `sslsocket_class`)."""


def with_deadline(connected: socket.socket) -> DeadlineSocket:
    """The same connection, with deadlines kept; the socket itself is of no more use."""
    timeout = connected.gettimeout()
    wrapped = DeadlineSocket(connected.family, connected.type, connected.proto, fileno=connected.detach())
    wrapped.settimeout(timeout)
    return wrapped
