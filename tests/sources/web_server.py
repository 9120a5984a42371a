"""A plain web server on loopback: pages of links for directories, files by ranges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from internlm_zoo.serve.background import start


@contextmanager
def serve_directory(root: Path, seen: list[str] | None = None) -> Iterator[str]:
    """seen: the paths that are asked for are added to it."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if seen is not None:
            seen.append(request.path)
        there = (root / request.match_info["path"]).resolve()
        if root.resolve() not in (there, *there.parents) or not there.exists():
            raise web.HTTPNotFound
        return web.FileResponse(there) if there.is_file() else page_of(there)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    with start(app) as server:
        yield server.url


def page_of(folder: Path) -> web.Response:
    lines = ['<a href="../">../</a>']
    for path in sorted(folder.iterdir()):
        name, stat = path.name + "/" * path.is_dir(), path.stat()
        lines.append(f'<a href="{quote(name)}">{escape(name)}</a> {stat.st_mtime_ns} {stat.st_size}')
    return web.Response(text="\n".join(lines), content_type="text/html")
