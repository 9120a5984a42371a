"""Opens a TCP connection to whichever address of a host answers first (RFC 8305, "happy eyeballs").

A name has often addresses of IPv6 and of IPv4, and one of the two leads nowhere in many networks. Tried one
after the other, a dead address costs the whole timeout; here the next is tried a moment later, beside it.
Which address answered is remembered, so that the moment is lost once.

The system's search for a name cannot be stopped, so it has a thread of its own, which holds up nobody's end;
for each name there is one at most, however often it is asked for.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Unfinished
from itertools import chain, zip_longest
from typing import Any

from converters.system.threads import started
from internlm_zoo.net.addresses import ip_of
from internlm_zoo.net.deadline import capped, with_deadline

Info = tuple[Any, ...]

# Until the next address is tried beside the others; RFC 8305, section 8, recommends 250 ms, curl takes 200.
ATTEMPT_DELAY = 0.2

# What connect_ex says of a socket that does not wait.
_UNDER_WAY = frozenset(
    {0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY, getattr(errno, "WSAEWOULDBLOCK", 0)}
)

# Host and port -> the address that answered last.
_answered: dict[tuple[str, int], Any] = {}

_Search = Future[list[Info]]
# Under way.
_searches: dict[tuple[str, int], _Search] = {}
_lock = threading.Lock()


def connect(
    host: str, port: int, timeout: float | None, options: Iterable[Sequence[Any]] = ()
) -> socket.socket:
    """A connected socket with that timeout. options: for setsockopt, before it connects.

    Raises socket.gaierror for a name that is unknown, TimeoutError if no address answers within `timeout`
    seconds, all together, or at the deadline of this thread, else the OSError of the first address.
    """
    infos = _addresses(host.strip("[]"), port, timeout)
    last = _answered.get((host, port))
    limit = capped(timeout)
    waiting = sorted(_alternating(infos), key=lambda info: info[4] != last)
    with _Race(tuple(options)) as race:
        winner = race.run(waiting, None if limit is None else time.monotonic() + limit)
    _answered[host, port] = race.answered
    winner.settimeout(timeout)
    return with_deadline(winner)


def _alternating(infos: Sequence[Info]) -> list[Info]:
    """The addresses as the system prefers them, but one family after the other (RFC 8305, section 4)."""
    families = list(dict.fromkeys(info[0] for info in infos))
    columns = [[info for info in infos if info[0] == family] for family in families]
    return [info for info in chain.from_iterable(zip_longest(*columns)) if info is not None]


class _Race:
    """Attempts under way. Those that have not won are closed in the end. answered: the winner's address."""

    answered: Any = None

    def __init__(self, options: Sequence[Sequence[Any]]) -> None:
        self._options = options
        self._failed: OSError | None = None
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def run(self, waiting: list[Info], deadline: float | None) -> socket.socket:
        while waiting or self._selector.get_map():
            if waiting:
                self._begin(waiting.pop(0))
            winner = self._await(ATTEMPT_DELAY if waiting else None, deadline)
            if winner is not None:
                return winner
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError("timed out")
        raise self._failed or OSError(errno.EADDRNOTAVAIL, "the name has no address")

    def _begin(self, info: Info) -> None:
        family, kind, protocol, _, address = info
        try:
            attempt = socket.socket(family, kind, protocol)
        except OSError as error:  # a family that this system does not have
            self._failed = self._failed or error
            return
        try:
            for option in self._options:
                attempt.setsockopt(*option)
            attempt.setblocking(False)
            if (code := attempt.connect_ex(address)) not in _UNDER_WAY:
                raise _refused(code)
        except OSError as error:
            self._failed = self._failed or error
            attempt.close()
        else:
            self._selector.register(attempt, selectors.EVENT_WRITE, address)

    def _await(self, seconds: float | None, deadline: float | None) -> socket.socket | None:
        """Whoever gets through, within so many seconds or until all that are under way have failed."""
        until = None if seconds is None else time.monotonic() + seconds
        while self._selector.get_map():
            ends = min((end for end in (until, deadline) if end is not None), default=None)
            left = None if ends is None else ends - time.monotonic()
            if left is not None and left <= 0:
                return None
            for key, _ in self._selector.select(left):
                attempt = key.fileobj
                assert isinstance(attempt, socket.socket)
                self._selector.unregister(attempt)
                code = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    self.answered = key.data
                    return attempt
                attempt.close()
                self._failed = self._failed or _refused(code)
        return None


def _refused(code: int) -> OSError:
    return OSError(code, os.strerror(code))  # Python makes it the subclass that the number means


def _addresses(host: str, port: int, seconds: float | None) -> list[Info]:
    """What `socket.getaddrinfo` says of TCP. Raises socket.gaierror for a name that is unknown, or none;
    TimeoutError after so many seconds, or at the deadline."""
    if ip_of(host) is not None:
        return _search(host, port)
    search = _shared_search(host, port)
    try:
        return search.result(capped(seconds))
    except Unfinished as error:
        if search.done():
            raise
        raise TimeoutError("timed out") from error


def _shared_search(host: str, port: int) -> _Search:
    key = host, port
    with _lock:
        if key in _searches:
            return _searches[key]
        search = _searches[key] = Future()

    def work() -> None:
        try:
            search.set_result(_search(host, port))
        except BaseException as error:  # noqa: BLE001 - carried to whoever waits
            search.set_exception(error)
        finally:
            with _lock:
                del _searches[key]

    if not started(threading.Thread(target=work, name=f"look up {host}", daemon=True)):
        work()
    return search


def _search(host: str, port: int) -> list[Info]:
    try:
        return list(socket.getaddrinfo(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM))
    except ValueError:  # labels that are empty or too long, NUL; UnicodeError is one
        raise socket.gaierror(socket.EAI_NONAME, "it cannot be a host name") from None
