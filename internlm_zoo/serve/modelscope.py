"""The ModelScopeApi download protocol: file lists (cut at 3000 entries, like the hub's), and bytes.

Protocol facts: modelscope 1.40.2 with modelscope-hub 0.5.1 (_legacy_api.py, _download.py), whose client is
the specification. Every file has a sha256; the branch is called master.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from internlm_zoo.errors import NotFoundError
from internlm_zoo.serve.authenticator import Authenticator, bearer_of
from internlm_zoo.serve.catalogue import Catalogue, EntryNotFound, Repository, ServedFile
from internlm_zoo.serve.files import send
from internlm_zoo.serve.pending import find_hashed

HUB = "modelscope"
LISTING_LIMIT = 3000  # as the hub's own, so that clients meet it here, too
COOKIE = "m_session_id"


@dataclass(frozen=True)
class ModelScopeApi:
    """Handlers over one catalogue."""

    catalogue: Catalogue
    authenticator: Authenticator

    def routes(self) -> list[web.RouteDef]:
        repo = "/api/v1/models/{org}/{name}"
        return [
            web.get(repo, self._answering(self.facts)),
            web.get(repo + "/revisions", self._answering(self.revisions)),
            web.get(repo + "/repo/files", self._answering(self.files)),
            web.get(repo + "/repo", self._answering(self.file)),
        ]

    async def facts(self, request: web.Request) -> web.StreamResponse:
        repository = await self._repository(request)
        org, name = repository.name.split("/")
        facts = {
            "Id": repository.revision,
            "Path": org,
            "Name": name,
            "Revision": "master",
            "LastUpdatedTime": int(repository.modified),
            "Visibility": 5 if not self.authenticator.tokens else 1,
        }
        return _data(facts)

    async def revisions(self, request: web.Request) -> web.StreamResponse:
        repository = await self._repository(request)
        created = int(repository.modified)
        branch = {"Revision": "master", "CommitId": repository.revision, "CreatedAt": created}
        return _data({"RevisionMap": {"Branches": [branch], "Tags": []}})

    async def files(self, request: web.Request) -> web.StreamResponse:
        repository = await self._repository(request)
        recursive = request.query.get("Recursive", "").lower() in ("true", "1")
        items = repository.listing(request.query.get("Root", ""), recursive=recursive)
        return _data({"Files": [_node(item, repository) for item in items[:LISTING_LIMIT]]})

    async def file(self, request: web.Request) -> web.StreamResponse:
        repository = await self._repository(request)
        path = request.query.get("FilePath")
        if path is None:
            raise EntryNotFound("the request names no FilePath")
        entry = repository.entry(path)
        headers = {"X-Linked-ETag": f'"{entry.sha256}"', "X-Repo-Commit": repository.revision}
        return send(request, entry, etag=entry.sha256, headers=headers)

    async def _repository(self, request: web.Request) -> Repository:
        asked = request.match_info
        repository = await find_hashed(self.catalogue, HUB, f"{asked['org']}/{asked['name']}")
        return repository.at(request.query.get("Revision") or "master")

    def _answering(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            tokens = (bearer_of(request.headers), request.cookies.get(COOKIE))
            if not any(map(self.authenticator.admits, tokens)):
                return _refusal(401, "this hub asks for a token")
            try:
                return await handler(request)
            except NotFoundError as error:
                return _refusal(404, error.what)

        return answer


def _data(data: dict[str, Any]) -> web.Response:
    return web.json_response({"Code": 200, "Success": True, "Message": "success", "Data": data})


def _refusal(status: int, message: str) -> web.Response:
    body = {"Code": status, "Success": False, "Message": message, "Data": None}
    return web.json_response(body, status=status)


def _node(item: str | ServedFile, repository: Repository) -> dict[str, Any]:
    path = item if isinstance(item, str) else item.path
    node = {"Name": path.rpartition("/")[2], "Path": path}
    if isinstance(item, str):
        return {**node, "Type": "tree", "Size": 0, "Mode": "16384"}
    return {
        **node,
        "Type": "blob",
        "Size": item.size,
        "Sha256": item.sha256,
        "Revision": repository.revision,
        "IsLFS": item.pointer is not None,
        "Mode": "33188",
        "CommittedDate": int(item.modified),
        "CommitMessage": "",
    }
