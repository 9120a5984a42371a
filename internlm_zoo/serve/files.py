"""Sends one file, or the part that was asked for (RFC 9110, sections 13 and 14), with the kernel's sendfile.

aiohttp's own FileResponse is not used: its ETag comes from the modification time, and it answers with a `.gz`
that happens to lie beside the file. Weights always go out as they are.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from email.utils import formatdate
from typing import BinaryIO

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from converters.formats.access import regular
from converters.system.filesystem import TOO_MANY
from internlm_zoo.serve.catalogue import ServedFile
from internlm_zoo.serve.hashing import state_of

_TURNS, _TURN_SECONDS = 50, 0.1  # 5 s in all, before the client has to ask again
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")  # 18 digits fit into the offset of a file


class FileBody(web.StreamResponse):
    """Bytes offset..offset+count of an entry's file."""

    def __init__(
        self, entry: ServedFile, offset: int, count: int, *, status: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(status=status, headers=headers)
        self.entry, self.offset, self.count = entry, offset, count
        self.content_length = count

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if self.prepared:
            return await super().prepare(request)
        writer = await super().prepare(request)
        if request.method != hdrs.METH_HEAD and self.count:
            await self._send(request)
        return writer

    async def _send(self, request: web.BaseRequest) -> None:
        if request.transport is None:
            raise ConnectionResetError("the client has gone")
        with await self._open(request.transport) as stream:
            if state_of(os.fstat(stream.fileno())) != self.entry.state:
                # Another lies there now, and the digest of the former is announced.
                request.transport.abort()
                raise ConnectionResetError(f"{self.entry.path} has changed")
            loop = asyncio.get_running_loop()
            sent = await loop.sendfile(request.transport, stream, self.offset, self.count)
        if sent != self.count:
            # The file shrank under us; the length is already announced, so only the connection can say it.
            request.transport.abort()
            raise ConnectionResetError(f"{self.entry.path} is shorter than it was")

    async def _open(self, transport: asyncio.Transport) -> BinaryIO:
        """Waits for its turn where few files may be open; the client asks again where that takes too long."""
        for _ in range(_TURNS):
            try:
                return await asyncio.to_thread(open, self.entry.file, "rb", opener=regular)
            except OSError as error:
                if error.errno not in TOO_MANY:
                    raise
            await asyncio.sleep(_TURN_SECONDS)
        transport.abort()
        raise ConnectionResetError("too many files are open")


def send(
    request: web.Request, entry: ServedFile, etag: str, headers: Mapping[str, str]
) -> web.StreamResponse:
    """The answer to a GET or HEAD of one file: 200, 206, 304, 412 or 416.

    etag: without quotes. headers: what the protocol adds.
    """
    tag = f'"{etag}"'
    common = {
        hdrs.CONTENT_TYPE: "application/octet-stream",
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.ETAG: tag,
        hdrs.LAST_MODIFIED: formatdate(entry.modified, usegmt=True),
        **headers,
    }
    if not _matches(request.headers.get(hdrs.IF_MATCH, "*"), tag, weak=False):
        return web.Response(status=412, headers=common)
    if _matches(request.headers.get(hdrs.IF_NONE_MATCH, ""), tag, weak=True):
        return web.Response(status=304, headers=common)
    part = _part(request, entry.size, tag)
    if part is None:
        return FileBody(entry, 0, entry.size, status=200, headers=common)
    start, stop = part
    if start >= stop:
        return web.Response(status=416, headers={**common, hdrs.CONTENT_RANGE: f"bytes */{entry.size}"})
    partial = {**common, hdrs.CONTENT_RANGE: f"bytes {start}-{stop - 1}/{entry.size}"}
    return FileBody(entry, start, stop - start, status=206, headers=partial)


def _matches(header: str, tag: str, *, weak: bool) -> bool:
    if header.strip() == "*":
        return True
    tags = [item.strip() for item in header.split(",")]
    return tag in ([item.removeprefix("W/") for item in tags] if weak else tags)


def _part(request: web.Request, size: int, tag: str) -> tuple[int, int] | None:
    """The half-open byte range asked for; None for the whole file, also where If-Range has a date, which is
    set by whoever writes the file, to the second (RFC 9110, 8.8.2.2); empty if it cannot be satisfied."""
    found = _RANGE.fullmatch(request.headers.get(hdrs.RANGE, "").replace(" ", ""))
    if found is None or request.headers.get(hdrs.IF_RANGE, tag) != tag:
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size
