"""The hub itself: the real application behind a middleware that records every request and puts faults in."""

from __future__ import annotations

import asyncio
import ssl
import sys
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from internlm_zoo.serve.app import app_for, environment
from internlm_zoo.serve.authenticator import Authenticator
from internlm_zoo.serve.background import Server, start
from internlm_zoo.serve.files import FileBody
from internlm_zoo.serve.openxlab import DOWNLOADS
from tests.hubs.faults import (
    ANSWERS,
    CLOSING,
    LISTING_KINDS,
    STORAGE,
    Fault,
    Faults,
    refusal,
    silence,
    truth_of,
)
from tests.hubs.listing import LISTING, LyingCatalogue
from tests.hubs.pages import PAGES, Pages
from tests.timing import wait_for

# Linux answers on all of 127/8; elsewhere the same machine goes by another name.
OTHER_HOST = "127.0.0.2" if sys.platform == "linux" else "localhost"


@dataclass
class Seen:
    """One request, and what became of it. file: the path in its repository if it was about a file's bytes.

    status: 0 while there is none yet. sent: bytes of a file that left, so far. fault: what struck it last.
    scheme: http or https. peer: the client's port, so one per connection. began, ended: `time.monotonic()`
    when it came, and when the last of its answer was handed over (None: not yet).
    """

    method: str
    path: str
    query: dict[str, str]
    headers: CIMultiDict[str]
    host: str
    scheme: str
    peer: int
    began: float
    ended: float | None = None
    file: str | None = None
    status: int = 0
    fault: str | int | None = None
    answer: web.StreamResponse | None = field(default=None, repr=False)

    @property
    def sent(self) -> int:
        return getattr(self.answer, "sent", 0) if self.file is not None else 0


class FaultyHub:
    """See `tests.hubs`."""

    def __init__(
        self,
        root: Path,
        *,
        tokens: Collection[str] = (),
        url_seconds: float = 3600,
        clock: Callable[[], float] = time.time,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.requests: list[Seen] = []
        self._faults = Faults()
        self._closing = threading.Event()
        catalogue = LyingCatalogue(Path(root), self._faults)
        gate = Authenticator(frozenset(tokens))
        open_gate = Authenticator(frozenset(), gate.secret)
        self._servers: list[Server] = []
        self._storage: dict[str, str] = {}
        try:
            app = app_for(catalogue, gate, url_seconds=url_seconds, clock=clock)
            app.add_routes(Pages(catalogue).routes())
            self.url = self._start(app, "127.0.0.1", tls)
            for name, host in (
                ("other-port", "127.0.0.1"),
                ("other-host", OTHER_HOST),
                ("plain", "127.0.0.1"),
            ):
                if name == "plain" and tls is None:
                    continue
                app = app_for(catalogue, open_gate, url_seconds=url_seconds, clock=clock)
                app.add_routes(Pages(catalogue).routes())
                app[STORAGE] = True
                self._storage[name] = self._start(app, host, None if name == "plain" else tls)
        except BaseException:
            self.close()
            raise

    def fault(
        self, kind: str | int, path: str = "*", times: int | None = None, after: int = 0, **how: Any
    ) -> None:
        """Switch a fault on; see `tests.hubs` for the kinds."""
        known = isinstance(kind, int) or kind in {*ANSWERS, *LISTING_KINDS, "hang", "delay", "redirect"}
        assert known, f"no such fault: {kind}"
        self._faults.add(Fault(kind, path, times, after, how))

    def clear(self) -> None:
        """Switch all faults off. What was recorded stays."""
        self._faults.clear()

    @property
    def env(self) -> dict[str, str]:
        return environment(self.url)

    @property
    def sent(self) -> int:
        return sum(seen.sent for seen in self.requests)

    def downloads(self, path: str = "*") -> list[Seen]:
        """The GETs of files' bytes."""
        return [
            seen
            for seen in self.requests
            if seen.method == "GET" and seen.file is not None and fnmatchcase(seen.file, path)
        ]

    def wait(self, until: Callable[[], object]) -> None:
        """Wait until something holds, for example `lambda: hub.sent > 1000`."""
        wait_for(until, "the hub waited in vain")

    def close(self) -> None:
        """Go away: the ports refuse connections from now on."""
        self._closing.set()
        for server in self._servers:
            server.close()

    def __enter__(self) -> FaultyHub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, app: web.Application, host: str, tls: ssl.SSLContext | None) -> str:
        app[CLOSING] = self._closing
        app.middlewares.append(self._middleware)
        server = start(app, host=host, tls=tls)
        self._servers.append(server)
        return server.url

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        seen = Seen(
            request.method,
            request.path,
            dict(request.query),
            CIMultiDict(request.headers),
            request.host,
            request.scheme,
            _port_of_client(request),
            time.monotonic(),
        )
        self.requests.append(seen)
        LISTING.set(not _asks_for_bytes(request))
        try:
            return await self._answer(seen, request, handler)
        finally:
            seen.ended = time.monotonic()

    async def _answer(self, seen: Seen, request: web.Request, handler: Any) -> web.StreamResponse:
        answer = await handler(request)
        seen.file = answer.entry.path if isinstance(answer, FileBody) else None
        for fault in self._faults.striking(request, answer):
            seen.fault = fault.kind
            answer = await self._spoil(fault, request, answer)
        if isinstance(answer, FileBody):
            # The same bytes, counted: sendfile tells only afterwards how far it came.
            truth = truth_of(request, answer)
            answer = truth.script(truth.pieces())
        seen.answer, seen.status = answer, answer.status
        await answer.prepare(request)
        return answer

    async def _spoil(
        self, fault: Fault, request: web.Request, answer: web.StreamResponse
    ) -> web.StreamResponse:
        if isinstance(fault.kind, int):
            return refusal(fault)
        if fault.kind == "redirect":
            return self._elsewhere(fault.how.get("to", "other-host"), request)
        if fault.kind == "delay" and "until" not in fault.how:
            await asyncio.sleep(fault.how.get("seconds", 0.05))
            return answer
        if fault.kind in ("delay", "hang"):
            await silence(fault, request)
            return answer
        return ANSWERS[fault.kind](fault, truth_of(request, answer))

    def _elsewhere(self, to: str, request: web.Request) -> web.StreamResponse:
        if to == "same":
            place = str(request.url.update_query(redirected="1"))
        elif to in self._storage:
            place = self._storage[to] + str(request.rel_url)
        else:
            place = to
        return web.Response(status=302, headers={"Location": place})


def _port_of_client(request: web.Request) -> int:
    assert request.transport is not None
    return int(request.transport.get_extra_info("peername")[1])


def _asks_for_bytes(request: web.Request) -> bool:
    path = request.path
    if path.startswith(PAGES + "/"):
        return not path.endswith("/")
    return any(part in path for part in ("/resolve/", "/media/", DOWNLOADS)) or path.endswith("/repo")
