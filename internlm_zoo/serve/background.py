"""Runs an application in a thread of this process, for as long as someone needs the hub."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from converters.system.threads import available, started
from internlm_zoo.errors import UsageError
from internlm_zoo.serve.app import build_app

_READERS = 8
_GRACE_SECONDS = 0.5
_LAST_PORT = 65535
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""The two names of all addresses, and where this machine finds itself then."""


@dataclass(frozen=True)
class Server(AbstractContextManager["Server"]):
    """A server that is up. url: without a slash at the end."""

    url: str
    _loop: asyncio.AbstractEventLoop
    _stop: asyncio.Event
    _thread: threading.Thread

    def close(self) -> None:
        """Stop answering; transfers under way have half a second more. Harmless when already closed."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def __exit__(self, *exception: object) -> None:
        self.close()


def start(
    served: Path | web.Application, port: int = 0, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Server:
    """Serve a directory, or an application, and return once it answers. port 0: any free one. tls: for https.

    Raises UsageError if the address cannot be had or is none, and what `build_app` raises.
    """
    _check_host(host)
    if not 0 <= port <= _LAST_PORT:
        raise UsageError(f"{port} is no port", "`port`", f"0 for any free one, or up to {_LAST_PORT}")
    app = build_app(served) if isinstance(served, Path) else served
    ready: Future[Server] = Future()
    serving = _serve(app, host, port, tls, ready)
    hub = threading.Thread(target=_run, args=(serving, ready), name="hub", daemon=True)
    if not started(hub):
        serving.close()
        fix = "allow more: ulimit -u, or the container's limit of processes"
        raise UsageError("the system gives no thread for the server", fix=fix)
    try:
        return ready.result()
    except OSError as error:
        raise _not_to_be_had(host, port, error) from error


def _check_host(host: str) -> None:
    """Who wants all addresses says so by the name they have: `""`, `*`, `0` or `::0` may be a variable that
    is not set, or a slip."""
    if not host.strip("*"):  # asyncio would listen everywhere
        raise UsageError(f"'{host}' is no address", "`host`", "0.0.0.0 listens on all addresses")
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):  # said when it is listened on
        return
    if host not in EVERYWHERE and any(map(_is_everywhere, found)):
        what = f"'{host}' means all addresses of this machine"
        raise UsageError(what, "`host`", "write 0.0.0.0, or :: for IPv6 too, if that is meant")


def _is_everywhere(address: str) -> bool:
    place = ipaddress.ip_address(address.partition("%")[0])
    mapped = place.ipv4_mapped if isinstance(place, ipaddress.IPv6Address) else None
    return (mapped or place).is_unspecified


def _run(serving: Coroutine[Any, Any, None], ready: Future[Server]) -> None:
    try:
        asyncio.run(serving)
    except Exception as error:
        if not ready.done():
            ready.set_exception(error)  # or whoever waits for the server would wait for ever
        elif not isinstance(error, RuntimeError) or available(1):
            raise  # else asyncio took leave of its readers by one more thread, and there was none


class _FallbackExecutor(ThreadPoolExecutor):
    """Reads files for the server; where the system gives no more threads, in the server's own."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError:
            done: Future[Any] = Future()
            done.set_result(fn(*args, **kwargs))
            return done


def _not_to_be_had(host: str, port: int, error: OSError) -> UsageError:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        what = f"'{host}' is no address of this machine"
        fix = "127.0.0.1 for this machine alone, 0.0.0.0 for all of its addresses"
        return UsageError(what, "`host`", fix)
    return UsageError(f"cannot listen on port {port}: {error.strerror}", host, "choose another `port`")


async def _serve(
    app: web.Application, host: str, port: int, tls: ssl.SSLContext | None, ready: Future[Server]
) -> None:
    asyncio.get_running_loop().set_default_executor(_FallbackExecutor(_READERS))
    # Cancelled, or a handler would go on for a client that has left.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE_SECONDS, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        stop = asyncio.Event()
        bound = runner.addresses[0][1]
        name = EVERYWHERE.get(host, host)
        name = f"[{name}]" if ":" in name else name
        url = f"{'https' if tls else 'http'}://{name}:{bound}"
        ready.set_result(Server(url, asyncio.get_running_loop(), stop, threading.current_thread()))
        await stop.wait()
    finally:
        await runner.cleanup()
