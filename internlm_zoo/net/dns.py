"""Names to addresses, within the time that there is.

The system's search cannot be stopped, so it has a thread of its own, which holds up nobody's end; for each
name there is one at most, however often it is asked for.
"""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Unfinished
from typing import Any

from converters.system.threads import started
from internlm_zoo.net.addresses import ip_of
from internlm_zoo.net.deadline import capped

Info = tuple[Any, ...]

_Search = Future[list[Info]]
_under_way: dict[tuple[str, int], _Search] = {}
_lock = threading.Lock()


def addresses(host: str, port: int, seconds: float | None) -> list[Info]:
    """What `socket.getaddrinfo` says of TCP. Raises socket.gaierror for a name that is unknown, or none;
    TimeoutError after so many seconds, or at the deadline."""
    if ip_of(host) is not None:
        return _search(host, port)
    search = _begun(host, port)
    try:
        return search.result(capped(seconds))
    except Unfinished as error:
        if search.done():
            raise
        raise TimeoutError("timed out") from error


def _begun(host: str, port: int) -> _Search:
    key = host, port
    with _lock:
        if key in _under_way:
            return _under_way[key]
        search = _under_way[key] = Future()

    def work() -> None:
        try:
            search.set_result(_search(host, port))
        except BaseException as error:  # noqa: BLE001 - carried to whoever waits
            search.set_exception(error)
        finally:
            with _lock:
                del _under_way[key]

    if not started(threading.Thread(target=work, name=f"look up {host}", daemon=True)):
        work()
    return search


def _search(host: str, port: int) -> list[Info]:
    try:
        return list(socket.getaddrinfo(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM))
    except ValueError:  # labels that are empty or too long, NUL; UnicodeError is one
        raise socket.gaierror(socket.EAI_NONAME, "it cannot be a host name") from None
