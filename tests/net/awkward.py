"""A plain web server with the habits of small ones: npm's http-server, old gateways, moved directories."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from internlm_zoo.serve.background import start

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Awkward:
    """files: by path. tells: whether it says with a 416 how long the file is. moved: paths that begin so lead
    to that address. cuts: how many bytes of a file's next answer come before the connection ends.
    seen: path and Range of whatever was asked for."""

    files: Mapping[str, bytes]
    tells: bool = True
    moved: Mapping[str, str] = field(default_factory=dict)
    cuts: int | None = None
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path, asked = request.path.lstrip("/"), request.headers.get("Range")
        self.seen.append((path, asked))
        for begin, target in self.moved.items():
            if path.startswith(begin):
                raise web.HTTPMovedPermanently(target + path.removeprefix(begin))
        if path.endswith("/"):
            return self._page(path)
        if path not in self.files:
            raise web.HTTPNotFound
        return await self._part(request, self.files[path], asked)

    def _page(self, folder: str) -> web.Response:
        names = {path.removeprefix(folder).partition("/") for path in self.files if path.startswith(folder)}
        if not names:
            raise web.HTTPNotFound
        links = "".join(f'<a href="{name}{slash}">x</a>' for name, slash, _ in sorted(names))
        return web.Response(text=f"<html>{links}</html>", content_type="text/html")

    async def _part(self, request: web.Request, content: bytes, asked: str | None) -> web.StreamResponse:
        headers: dict[str, Any] = {"ETag": f'W/"{len(content)}"'}
        found = _RANGE.fullmatch(asked or "")
        if found is None:
            return web.Response(body=content, headers=headers)
        first, last = int(found[1]), min(int(found[2] or len(content)), len(content) - 1)
        if first > last:
            told = {"Content-Range": f"bytes */{len(content)}"} if self.tells else {}
            return web.Response(status=416, text="Range Not Satisfiable", headers=told)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        part = content[first : last + 1]
        if self.cuts is None:
            return web.Response(status=206, body=part, headers=headers)
        return await self._cut(request, part, headers)

    async def _cut(self, request: web.Request, part: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
        answer = web.StreamResponse(status=206, headers=headers)
        answer.content_length = len(part)
        await answer.prepare(request)
        await answer.write(part[: self.cuts])
        self.cuts = None
        if request.transport is not None:
            request.transport.close()
        return answer


@contextmanager
def serving(server: Awkward) -> Iterator[Awkward]:
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    with start(app) as running:
        server.url = running.url
        yield server
