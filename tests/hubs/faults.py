"""The faults themselves: when one strikes, and what the client then gets instead of the true answer."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from aiohttp import hdrs, web

from internlm_zoo.serve.catalogue import lfs_pointer
from internlm_zoo.serve.files import FileBody

_PIECE = 128 * 1024
_PAGE = "<!DOCTYPE html><html><title>Sign in</title><body>Please sign in to go on.</body></html>"
LISTING_KINDS = frozenset({"evil-name", "wrong-digest", "wrong-size"})
STORAGE = web.AppKey("storage", bool)
CLOSING = web.AppKey("closing", threading.Event)
_CODES = {401: "GatedRepo", 403: "GatedRepo", 404: "EntryNotFound"}


@dataclass
class Fault:
    """One thing that goes wrong. left: how many more times; None: always. off: it has been switched off."""

    kind: str | int
    path: str
    left: int | None
    after: int
    how: dict[str, Any] = field(default_factory=dict)
    off: bool = False

    def about(self, file: str | None, url_path: str | None) -> bool:
        subject = url_path if self.path.startswith("/") else file
        return subject is not None and fnmatchcase(subject, self.path)

    def take(self) -> bool:
        """Use it once, if it may still be used."""
        if self.left == 0:
            return False
        self.left = None if self.left is None else self.left - 1
        return True


class Faults:
    """The faults that are switched on, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[Fault] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._all.append(fault)

    def clear(self) -> None:
        with self._lock:
            for fault in self._all:
                fault.off = True
            self._all.clear()

    def active(self, kinds: Collection[str]) -> Iterator[Fault]:
        with self._lock:
            found = [fault for fault in self._all if fault.kind in kinds and fault.left != 0]
        yield from found

    def striking(self, request: web.Request, answer: web.StreamResponse) -> list[Fault]:
        """What goes wrong with this answer: delays, then at most one other; each is used up once."""
        with self._lock:
            found = [fault for fault in self._all if self._fits(fault, request, answer)]
            delays = [fault for fault in found if fault.kind == "delay" and fault.take()]
            others = sorted((fault for fault in found if fault.kind != "delay"), key=_redirects_first)
            return delays + [fault for fault in others[:1] if fault.take()]

    def _fits(self, fault: Fault, request: web.Request, answer: web.StreamResponse) -> bool:
        path = answer.entry.path if isinstance(answer, FileBody) else None
        if fault.left == 0 or not fault.about(path, request.path):
            return False
        if request.method == hdrs.METH_HEAD and not fault.how.get("head"):
            return False
        return _strikes(fault, request, answer)


def _strikes(fault: Fault, request: web.Request, answer: web.StreamResponse) -> bool:
    if fault.kind in LISTING_KINDS:
        return False
    if fault.kind == "redirect":
        return not request.app.get(STORAGE) and "redirected" not in request.query
    if fault.kind == "rejects":
        return hdrs.AUTHORIZATION in request.headers or hdrs.COOKIE in request.headers
    if fault.kind == "flip" and isinstance(answer, FileBody):
        return answer.offset <= fault.after < answer.offset + answer.count
    return fault.kind not in ("ignore-range", "part") or answer.status == 206


def _redirects_first(fault: Fault) -> bool:
    return fault.kind != "redirect"


class Script(web.StreamResponse):
    """An answer that is played: a length to announce (None: chunked), bytes, and an ending.

    sent: bytes handed to the connection; a client never has more than that.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        *,
        status: int,
        headers: dict[str, str],
        length: int | None,
        closes: bool = False,
    ) -> None:
        super().__init__(status=status, headers=headers)
        self._pieces, self._closes, self.sent = pieces, closes, 0
        if length is None:
            self.enable_chunked_encoding()
        else:
            self.content_length = length

    async def prepare(self, request: web.BaseRequest) -> Any:
        if self.prepared:
            return await super().prepare(request)
        writer = await super().prepare(request)
        if request.method != hdrs.METH_HEAD:
            async for piece in self._pieces:
                self.sent += len(piece)
                await self.write(piece)
            if self._closes and request.transport is not None:
                request.transport.close()
        return writer


@dataclass(frozen=True)
class Truth:
    """The answer as it should have been. offset: of its first byte in the file."""

    request: web.Request
    status: int
    headers: dict[str, str]
    offset: int
    count: int
    read: Callable[[int, int], bytes]
    whole: int
    sha256: str

    async def pieces(
        self, start: int = 0, stop: int | None = None, size: int = _PIECE
    ) -> AsyncIterator[bytes]:
        """Bytes start..stop of the answer's body."""
        stop = self.count if stop is None else min(stop, self.count)
        for at in range(start, stop, size):
            yield await asyncio.to_thread(self.read, self.offset + at, min(size, stop - at))

    def script(self, pieces: AsyncIterator[bytes], length: int | None = -1, **changes: Any) -> Script:
        headers = {**self.headers, **changes.pop("headers", {})}
        status = changes.pop("status", self.status)
        return Script(
            pieces, status=status, headers=headers, length=self.count if length == -1 else length, **changes
        )


def truth_of(request: web.Request, answer: web.StreamResponse) -> Truth:
    headers = {name: value for name, value in answer.headers.items() if name != hdrs.CONTENT_LENGTH}
    if isinstance(answer, FileBody):
        entry = answer.entry

        def read(offset: int, count: int) -> bytes:
            with entry.file.open("rb") as stream:
                stream.seek(offset)
                return stream.read(count)

        return Truth(
            request, answer.status, headers, answer.offset, answer.count, read, entry.size, entry.sha256
        )
    assert isinstance(answer, web.Response)
    body = answer.body if isinstance(answer.body, bytes) else b""
    return Truth(
        request, answer.status, headers, 0, len(body), lambda at, n: body[at : at + n], len(body), "0" * 64
    )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def refusal(fault: Fault) -> web.Response:
    """A status such as the hubs give, understandable to each of their clients."""
    status = int(fault.kind)
    headers = {}
    if status in _CODES:
        headers["X-Error-Code"] = _CODES[status]
    if "retry_after" in fault.how:
        asked = fault.how["retry_after"]  # a date is told when it is asked for, however late that is
        headers[hdrs.RETRY_AFTER] = str(asked() if callable(asked) else asked)
    if "body" in fault.how:
        return web.Response(status=status, text=fault.how["body"], headers=headers)
    what = f"fault {status}"
    body = {"error": what, "Code": status, "Success": False, "Message": what}
    return web.json_response(body, status=status, headers=headers)


def _flip(fault: Fault, truth: Truth) -> web.StreamResponse:
    async def pieces() -> AsyncIterator[bytes]:
        at = truth.offset
        async for piece in truth.pieces():
            if at <= fault.after < at + len(piece):
                spoilt = bytearray(piece)
                spoilt[fault.after - at] ^= 0xFF
                piece = bytes(spoilt)
            at += len(piece)
            yield piece

    return truth.script(pieces())


def _truncate(fault: Fault, truth: Truth) -> web.StreamResponse:
    return truth.script(truth.pieces(0, fault.after or truth.count // 2), closes=True)


def _long_length(fault: Fault, truth: Truth) -> web.StreamResponse:
    return truth.script(truth.pieces(), length=truth.count + fault.how.get("by", 1000), closes=True)


def _short_length(fault: Fault, truth: Truth) -> web.StreamResponse:
    length = max(0, truth.count - fault.how.get("by", 1))
    return truth.script(truth.pieces(0, length), length=length)


def _no_length(fault: Fault, truth: Truth) -> web.StreamResponse:
    return truth.script(truth.pieces(), length=None)


def _whole(truth: Truth, **changes: Any) -> Truth:
    headers = {name: value for name, value in truth.headers.items() if name != hdrs.CONTENT_RANGE}
    return Truth(truth.request, 200, headers, 0, truth.whole, truth.read, truth.whole, truth.sha256)


def _ignore_range(fault: Fault, truth: Truth) -> web.StreamResponse:
    whole = _whole(truth)
    return whole.script(whole.pieces())


def _wrong_range(fault: Fault, truth: Truth) -> web.StreamResponse:
    start = truth.offset + 1
    count = min(truth.count, truth.whole - start)
    shifted = Truth(truth.request, 206, truth.headers, start, count, truth.read, truth.whole, truth.sha256)
    spoken = f"bytes {start}-{start + count - 1}/{truth.whole}"
    return shifted.script(shifted.pieces(), headers={hdrs.CONTENT_RANGE: spoken})


def _part(fault: Fault, truth: Truth) -> web.StreamResponse:
    count = -(-truth.count // 2)
    spoken = f"bytes {truth.offset}-{truth.offset + count - 1}/{truth.whole}"
    return truth.script(truth.pieces(0, count), length=count, headers={hdrs.CONTENT_RANGE: spoken})


def _stall(fault: Fault, truth: Truth) -> web.StreamResponse:
    async def pieces() -> AsyncIterator[bytes]:
        async for piece in truth.pieces(0, fault.after):
            yield piece
        await silence(fault, truth.request)
        async for piece in truth.pieces(fault.after):
            yield piece

    return truth.script(pieces())


def _reset(fault: Fault, truth: Truth) -> web.StreamResponse:
    async def pieces() -> AsyncIterator[bytes]:
        async for piece in truth.pieces(0, fault.after):
            yield piece
        await asyncio.sleep(0.05)
        break_off(truth.request)

    return truth.script(pieces())


def _slow(fault: Fault, truth: Truth) -> web.StreamResponse:
    rate = fault.how.get("rate", 10_000)
    step = max(1, int(rate / 20))
    flows = fault.how.get("flows", lambda: True)

    async def pieces() -> AsyncIterator[bytes]:
        async for piece in truth.pieces(size=step):
            while not (flows() or fault.off):
                if truth.request.app[CLOSING].is_set():
                    break_off(truth.request)
                await asyncio.sleep(0.02)
            yield piece
            await asyncio.sleep(step / rate)

    return truth.script(pieces())


def _html(fault: Fault, truth: Truth) -> web.StreamResponse:
    return web.Response(text=_PAGE, content_type="text/html")


def _encoding(fault: Fault, truth: Truth) -> web.StreamResponse:
    packed = gzip.compress(truth.read(truth.offset, truth.count))
    return truth.script(_once(packed), length=len(packed), headers={hdrs.CONTENT_ENCODING: "gzip"})


def _lfs_pointer(fault: Fault, truth: Truth) -> web.StreamResponse:
    pointer = lfs_pointer(truth.sha256, truth.whole)
    return _whole(truth).script(_once(pointer), length=len(pointer))


def _etag_changes(fault: Fault, truth: Truth) -> web.StreamResponse:
    count = fault.how["count"] = fault.how.get("count", 0) + 1
    return truth.script(truth.pieces(), headers={hdrs.ETAG: f'"changed-{count}"'})


def _empty(fault: Fault, truth: Truth) -> web.StreamResponse:
    """A success without a byte, and without a word of the file."""
    return web.Response(status=200, content_type="application/octet-stream")


def _expired(fault: Fault, truth: Truth) -> web.StreamResponse:
    text = "<Error><Code>AccessDenied</Code><Message>Request has expired.</Message></Error>"
    return web.Response(status=403, text=text, content_type="application/xml")


def _rejects(fault: Fault, truth: Truth) -> web.StreamResponse:
    """As Hugging Face answers to an expired token; it repeats what was sent, as some do."""
    sent = " ".join(truth.request.headers.get(name, "") for name in (hdrs.AUTHORIZATION, hdrs.COOKIE))
    what = f"Invalid credentials in Authorization header: {sent}"
    status = fault.how.get("status", 401)
    body = {"error": what, "Code": status, "Success": False, "Message": what}
    headers = {"X-Error-Message": "Invalid credentials in Authorization header"}
    return web.json_response(body, status=status, headers=headers)


ANSWERS: dict[str | int, Callable[[Fault, Truth], web.StreamResponse]] = {
    "flip": _flip,
    "truncate": _truncate,
    "long-length": _long_length,
    "short-length": _short_length,
    "no-length": _no_length,
    "ignore-range": _ignore_range,
    "wrong-range": _wrong_range,
    "part": _part,
    "stall": _stall,
    "reset": _reset,
    "slow": _slow,
    "html": _html,
    "encoding": _encoding,
    "lfs-pointer": _lfs_pointer,
    "etag-changes": _etag_changes,
    "empty": _empty,
    "expired": _expired,
    "rejects": _rejects,
}


async def silence(fault: Fault, request: web.Request) -> None:
    """Say nothing, for good, for `seconds`, or until `until` holds; the hub ends it when it closes."""
    end = asyncio.get_running_loop().time() + fault.how.get("seconds", 3600)
    over = fault.how.get("until", lambda: asyncio.get_running_loop().time() >= end)
    while not over():
        if request.app[CLOSING].is_set():
            break_off(request)
        await asyncio.sleep(0.02)


def break_off(request: web.Request) -> None:
    """Reset the connection, as a network that breaks does."""
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    raise ConnectionResetError("broken off on purpose")
