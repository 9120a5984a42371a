"""The repositories of a catalogue once more, below /web/, as a plain web server shows directories: pages of
links, and files by ranges."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from aiohttp import web

from internlm_zoo.errors import NotFoundError
from internlm_zoo.serve.catalogue import Catalogue
from internlm_zoo.serve.files import send
from internlm_zoo.serve.pending import find_hashed

PAGES = "/web"


@dataclass(frozen=True)
class Pages:
    catalogue: Catalogue

    def routes(self) -> list[web.RouteDef]:
        return [web.get(PAGES + "/{org}/{name}/{path:.*}", self.answer)]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = request.match_info
        try:
            repository = await find_hashed(self.catalogue, "web", f"{asked['org']}/{asked['name']}")
            if not asked["path"] or asked["path"].endswith("/"):
                return _page([entry.path for entry in repository.entries], asked["path"])
            entry = repository.entry(asked["path"])
        except NotFoundError as error:
            raise web.HTTPNotFound from error
        return send(request, entry, etag=f"{entry.size:x}-{entry.modified}", headers={})


def _page(paths: list[str], folder: str) -> web.Response:
    below = [path.removeprefix(folder) for path in paths if path.startswith(folder)]
    names = dict.fromkeys(path if "/" not in path else path.split("/")[0] + "/" for path in below)
    lines = [f'<a href="{quote(name)}">{escape(name)}</a>' for name in ("../", *names)]
    return web.Response(text="\n".join(lines), content_type="text/html")
