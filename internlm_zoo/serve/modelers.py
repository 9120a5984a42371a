"""The Modelers download protocol: facts, one folder's listing, one file's metadata, and bytes.

Protocol facts: openmind-hub 1.3.0 (plugins/openmind/om_api.py, file_download.py), whose client is the
specification. The hub sends files on to a CDN; the client takes them from here as well. Which code the
service has for a repository that it does not know is unknown: the client reads none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from internlm_zoo.errors import NotFoundError
from internlm_zoo.serve.authenticator import Authenticator, bearer_of
from internlm_zoo.serve.catalogue import Catalogue, EntryNotFound, Repository, RevisionNotFound, ServedFile
from internlm_zoo.serve.files import send
from internlm_zoo.serve.pending import find_hashed

HUB = "modelers"
_MISSING = {RevisionNotFound: "ref_not_exist", EntryNotFound: "branch_or_path_not_found"}


class WrongEntryKind(NotFoundError):
    """A folder where a file is asked for, or the other way round. code: what the client calls it."""

    def __init__(self, path: str, code: str) -> None:
        super().__init__(f"{path}: {code}")
        self.code = code


@dataclass(frozen=True)
class ModelersApi:
    """Handlers over one catalogue."""

    catalogue: Catalogue
    authenticator: Authenticator

    def routes(self) -> list[web.RouteDef]:
        repo = "/api/v1/file/{org}/{name}"
        return [
            web.get("/api/v1/model/{org}/{name}", self._answering(self.facts)),
            web.get(repo, self._answering(self.tree)),
            web.get(repo + "/info", self._answering(self.info)),
            web.get(repo + "/{revision}/media/{path:.+}", self._answering(self.media)),
        ]

    async def facts(self, request: web.Request) -> web.StreamResponse:
        repository = await self._repository(request, request.query.get("ref"))
        org, name = repository.name.split("/")
        changed = _moment(repository.modified)
        facts: dict[str, Any] = {
            "id": repository.revision,
            "owner": org,
            "name": name,
            "fullname": name,
            "visibility": "private" if self.authenticator.tokens else "public",
            "create_at": changed,
            "updated_at": changed,
            "labels": {"others": [], "task": None, "frameworks": []},
            "siblings": [{"rfilename": entry.path} for entry in repository.entries],
        }
        return _data(facts)

    async def tree(self, request: web.Request) -> web.StreamResponse:
        repository = await self._repository(request, request.query.get("ref"))
        folder = request.query.get("path", "")
        if folder in repository.by_path:
            raise WrongEntryKind(folder, "not_dir")
        nodes = [_node(item, repository) for item in repository.listing(folder, recursive=False)]
        return _data({"tree": nodes, "last_commit": {"commit": _commit(repository)}})

    async def info(self, request: web.Request) -> web.StreamResponse:
        repository = await self._repository(request, request.query.get("ref"))
        path = request.query.get("path", "")
        if path not in repository.by_path and repository.listing(path, recursive=False):
            raise WrongEntryKind(path, "not_file")
        node = _node(repository.entry(path), repository)
        return _data({**node, "branch_last_commit": repository.revision})

    async def media(self, request: web.Request) -> web.StreamResponse:
        repository = await self._repository(request, request.match_info["revision"])
        entry = repository.entry(request.match_info["path"])
        return send(request, entry, etag=_etag(entry), headers={})

    async def _repository(self, request: web.Request, revision: str | None) -> Repository:
        asked = request.match_info
        repository = await find_hashed(self.catalogue, HUB, f"{asked['org']}/{asked['name']}")
        return repository.at(revision or "main")

    def _answering(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            if not self.authenticator.admits(bearer_of(request.headers)):
                return _refusal(401, "unauthorized", "this hub asks for a token")
            try:
                return await handler(request)
            except WrongEntryKind as error:
                return _refusal(404, error.code, error.what)
            except NotFoundError as error:
                return _refusal(404, _MISSING.get(type(error), "repo_not_found"), error.what)

        return answer


def _data(data: dict[str, Any]) -> web.Response:
    return web.json_response({"code": "", "msg": "", "data": data})


def _refusal(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"code": code, "msg": message, "data": None}, status=status)


def _node(item: str | ServedFile, repository: Repository) -> dict[str, Any]:
    path = item if isinstance(item, str) else item.path
    node = {"name": path.rpartition("/")[2], "path": path, "commit": _commit(repository)}
    if isinstance(item, str):
        return {**node, "type": "dir", "size": 0, "etag": "", "is_lfs": False}
    return {
        **node,
        "type": "file",
        "size": item.size,
        "etag": _etag(item),
        "is_lfs": item.pointer is not None,
    }


def _etag(entry: ServedFile) -> str:
    return entry.git_sha1 or entry.sha256


def _commit(repository: Repository) -> dict[str, str]:
    return {"commit_sha": repository.revision, "message": "", "created": _moment(repository.modified)}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
