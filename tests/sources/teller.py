"""A hub that answers every question with the same bytes, and what true hubs answer."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3
from aiohttp import web

from internlm_zoo.serve.background import start
from tests.hubs import FaultyHub
from tests.sources.contract import REPO, write_files

OPENXLAB = "/api/v1/model-center/api/v1/cli/repository/getFileDownloadUrl"
QUESTIONS = {
    "huggingface": f"/api/models/{REPO}?blobs=true",
    "modelscope": f"/api/v1/models/{REPO}/repo/files?Revision=master&Recursive=True",
    "modelers": f"/api/v1/file/{REPO}?path=&ref=main",
    "openxlab": OPENXLAB,
}
FILES = {"a.json": b"{}", "b.bin": b"", "model.safetensors": bytes(2000)}
# Where each protocol has the list of its files, and what it calls these facts of the last of them.
FACTS = {
    "huggingface": (("siblings", 2), {"path": "rfilename", "size": "lfs.size", "sha256": "lfs.sha256"}),
    "modelscope": (("Data", "Files", 2), {"path": "Path", "size": "Size", "sha256": "Sha256"}),
    "modelers": (("data", "tree", 2), {"path": "path", "size": "size", "sha256": "etag"}),
}


class Teller:
    """body: of every answer; kind: its content type. asked: how often. url: of the hub."""

    def __init__(self) -> None:
        self.body, self.kind, self.asked, self.url = b"", "application/json", 0, ""

    def tells(self, body: Any) -> None:
        """bytes as they are, everything else as JSON."""
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(body=self.body, content_type=self.kind)


@contextmanager
def telling() -> Iterator[Teller]:
    teller, app = Teller(), web.Application()
    app.router.add_route("*", "/{anything:.*}", teller.answer)
    with start(app) as server:
        teller.url = server.url
        yield teller


def record(root: Path) -> Mapping[str, Any]:
    """What the loopback hub says of FILES in REPO, by protocol. root: a folder for it."""
    write_files(root / REPO, FILES)
    user, name = REPO.split("/")
    asked = json.dumps({"userName": user, "repositoryName": name})
    with FaultyHub(root) as hub:
        return {
            protocol: urllib3.request("POST", hub.url + question, body=asked).json()
            if protocol == "openxlab"
            else urllib3.request("GET", hub.url + question).json()
            for protocol, question in QUESTIONS.items()
        }


def changed(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The document with another value there."""
    whole = {"": copy.deepcopy(document)}
    parent: Any = whole
    *before, last = ("", *place)
    for step in before:
        parent = parent[step]
    parent[last] = value
    return whole[""]


def fact(protocol: str, name: str) -> tuple[Any, ...]:
    """The place of a fact of the last file: path, size or sha256."""
    place, names = FACTS[protocol]
    return (*place, *names[name].split("."))


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every value in a document."""
    yield place
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*place, key))
