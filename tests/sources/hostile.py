"""A hub that lists what it is told to: digests, sizes and commits that no honest server would name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from internlm_zoo.serve.background import Server, start

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# path -> sha256, size, commit, date; what is not told is harmless
Files = Mapping[str, Mapping[str, Any]]


def hub_that_lists(protocol: str, files: Files, *, commit: str = COMMIT, **more: str) -> Server:
    """Answers every request with this listing. more: what only some protocols say."""
    return hub_that_answers(web.json_response, LISTINGS[protocol](files, commit, **more))


def hub_that_answers(response: Any, *words: Any) -> Server:
    async def handle(request: web.Request) -> web.StreamResponse:
        answer: web.StreamResponse = response(*words)
        return answer

    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", handle)
    return start(app)


def _huggingface(files: Files, commit: str) -> dict[str, Any]:
    def lfs(facts: Mapping[str, Any]) -> dict[str, Any]:
        return {"sha256": facts.get("sha256", "0" * 64), "size": facts.get("size", 1), "pointerSize": 100}

    siblings = [{"rfilename": path, "lfs": lfs(facts)} for path, facts in files.items()]
    return {"id": "org/name", "sha": commit, "siblings": siblings, "private": False, "tags": []}


def _modelscope(files: Files, commit: str) -> dict[str, Any]:
    entries = [
        {
            "Path": path,
            "Type": "blob",
            "Size": facts.get("size", 1),
            "Sha256": facts.get("sha256", "0" * 64),
            "Revision": facts.get("commit", commit),
            "CommittedDate": facts.get("date", 1),
        }
        for path, facts in files.items()
    ]
    return {"Code": 200, "Success": True, "Data": {"Files": entries}}


def _modelers(files: Files, commit: str, date: str = "2024-07-19T08:00:00Z") -> dict[str, Any]:
    tree = [
        {
            "path": path,
            "type": "file",
            "size": facts.get("size", 1),
            "etag": facts.get("sha256", "0" * 64),
            "is_lfs": True,
        }
        for path, facts in files.items()
    ]
    return {"data": {"tree": tree, "last_commit": {"commit": {"commit_sha": commit, "created": date}}}}


def _openxlab(files: Files, commit: str) -> dict[str, Any]:
    paths = {path: {"url": "http://127.0.0.1:9/x", "fileName": path, "hash": "0" * 32} for path in files}
    return {
        "msgCode": "10000",
        "data": {"msgCode": "10000", "data": {"modelNames": None, "filePaths": paths}},
    }


LISTINGS: dict[str, Callable[..., dict[str, Any]]] = {
    "huggingface": _huggingface,
    "modelscope": _modelscope,
    "modelers": _modelers,
    "openxlab": _openxlab,
}
