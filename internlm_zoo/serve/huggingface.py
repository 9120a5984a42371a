"""The Hugging Face download protocol: repository facts, the tree with its pages, and `resolve`.

Protocol facts: huggingface_hub 2.4.0 (hf_api.py, file_download.py, utils/_http.py), whose client is the
specification. No `X-Xet-*` header is ever sent, so clients stay with plain HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from internlm_zoo.errors import NotFoundError
from internlm_zoo.serve.authenticator import Authenticator, bearer_of
from internlm_zoo.serve.catalogue import Catalogue, Repository, ServedFile, git_blob_sha1
from internlm_zoo.serve.files import send
from internlm_zoo.serve.pending import find_hashed

HUB = "huggingface"
PAGE = 1000  # entries, as the Hub gives them; its client asks for the next by the Link header


@dataclass(frozen=True)
class HuggingFaceApi:
    """Handlers over one catalogue."""

    catalogue: Catalogue
    authenticator: Authenticator

    def routes(self) -> list[web.RouteDef]:
        repo = "/api/models/{org}/{name}"
        return [
            web.get(repo, self._answering(self.facts)),
            web.get(repo + "/revision/{revision}", self._answering(self.facts)),
            web.get(repo + "/refs", self._answering(self.refs)),
            web.get(repo + "/tree/{revision}", self._answering(self.tree)),
            web.get(repo + "/tree/{revision}/{folder:.*}", self._answering(self.tree)),
            web.post(repo + "/paths-info/{revision}", self._answering(self.paths_info)),
            web.get("/{org}/{name}/resolve/{revision}/{path:.+}", self._answering(self.resolve)),
        ]

    async def facts(self, request: web.Request) -> web.StreamResponse:
        repository = await self._repository(request)
        modified = datetime.fromtimestamp(repository.modified, timezone.utc)
        detailed = request.query.get("blobs", "").lower() in ("true", "1")
        facts = {
            "id": repository.name,
            "modelId": repository.name,
            "author": request.match_info["org"],
            "sha": repository.revision,
            "lastModified": modified.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "private": bool(self.authenticator.tokens),
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [_sibling(entry, detailed) for entry in repository.entries],
        }
        return web.json_response(facts)

    async def refs(self, request: web.Request) -> web.StreamResponse:
        repository = await self._repository(request)
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.revision}
        return web.json_response({"branches": [main], "tags": [], "converts": []})

    async def tree(self, request: web.Request) -> web.StreamResponse:
        repository = await self._repository(request)
        recursive = request.query.get("recursive", "").lower() in ("true", "1")
        items = repository.listing(request.match_info.get("folder", ""), recursive=recursive)
        start = _number(request.query.get("cursor"), 0)
        stop = start + max(1, min(PAGE, _number(request.query.get("limit"), PAGE)))
        headers = {}
        if stop < len(items):
            headers[hdrs.LINK] = f'<{request.url.update_query(cursor=str(stop))}>; rel="next"'
        return web.json_response([_node(item) for item in items[start:stop]], headers=headers)

    async def paths_info(self, request: web.Request) -> web.StreamResponse:
        repository = await self._repository(request)
        asked = {str(path) for path in (await request.post()).getall("paths", [])}
        items = repository.listing(recursive=True)
        return web.json_response([_node(item) for item in items if _path(item) in asked])

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        repository = await self._repository(request)
        entry = repository.entry(request.match_info["path"])
        headers = {"X-Repo-Commit": repository.revision}
        if entry.pointer is not None:
            headers.update({"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)})
        return send(request, entry, etag=entry.git_sha1 or entry.sha256, headers=headers)

    async def _repository(self, request: web.Request) -> Repository:
        asked = request.match_info
        repository = await find_hashed(self.catalogue, HUB, f"{asked['org']}/{asked['name']}")
        return repository.at(asked.get("revision", "main"))

    def _answering(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            token = bearer_of(request.headers)
            if not self.authenticator.admits(token):
                why = "Invalid credentials in Authorization header" if token else "This hub asks for a token."
                return _refusal(401, "GatedRepo", why)
            try:
                return await handler(request)
            except NotFoundError as error:
                return _refusal(404, type(error).__name__, error.what)

        return answer


def _refusal(status: int, code: str, message: str) -> web.Response:
    # A header takes neither control characters nor much beyond ASCII; the body carries the message whole.
    in_header = "".join(letter if " " <= letter <= "~" else "?" for letter in message)
    headers = {"X-Error-Code": code, "X-Error-Message": in_header}
    return web.json_response({"error": message}, status=status, headers=headers)


def _sibling(entry: ServedFile, detailed: bool) -> dict[str, Any]:
    if not detailed:
        return {"rfilename": entry.path}
    sibling = {"rfilename": entry.path, "size": entry.size, "blobId": entry.oid}
    if entry.pointer is not None:
        sibling["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": len(entry.pointer)}
    return sibling


def _path(item: str | ServedFile) -> str:
    return item if isinstance(item, str) else item.path


def _node(item: str | ServedFile) -> dict[str, Any]:
    if isinstance(item, str):
        return {"type": "directory", "path": item, "size": 0, "oid": git_blob_sha1(item.encode())}
    node = {"type": "file", "path": item.path, "size": item.size, "oid": item.oid}
    if item.pointer is not None:
        node["lfs"] = {"oid": item.sha256, "size": item.size, "pointerSize": len(item.pointer)}
    return node


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else otherwise
