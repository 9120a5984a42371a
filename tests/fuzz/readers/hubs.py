"""Listings of every protocol, as their adapters read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from internlm_zoo.net.redirects import target_of
from internlm_zoo.net.statuses import retry_after
from internlm_zoo.registry import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources import open_source
from internlm_zoo.sources.hub_client import Response
from tests.fuzz.contract import Reader
from tests.sources.hostile import LISTINGS

REPO = "org/name"
_SETTINGS = Settings(home=Path("/nonexistent"), environ={"HOME": "/nonexistent"})
_PAGE = b'<html><a href="../">up</a><a href="config.json">config.json</a><a href="model.bin">x</a></html>'
_FILES = {"config.json": {"size": 10}, "model.safetensors": {"size": 2000, "sha256": "a" * 64}}


@dataclass(frozen=True)
class _Canned:
    """An asker that always gets the same answer."""

    client: Any
    data: bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def get(self, url: str) -> Response:
        return Response(url, 200, {"Content-Type": "text/html"}, self.data)

    def post(self, url: str, content: Any, headers: Any) -> Response:
        return Response(url, 200, {}, self.data)


def _listing(protocol: str) -> Callable[[bytes], object]:
    hub = Hub(name="somewhere", title="Somewhere", protocol=protocol, endpoint="http://127.0.0.1:9")

    def read(data: bytes) -> object:
        source: Any = open_source(hub, _SETTINGS)
        source._client = _Canned(source._client, data)
        with patch("internlm_zoo.net.retry_policy.RetryPolicy.pause", lambda *_: 0.0):
            snapshot = source.resolve(REPO)
            return [source.locate(snapshot, file.path) for file in snapshot.files]

    return read


def _honest(protocol: str) -> Callable[[], list[bytes]]:
    return lambda: [json.dumps(LISTINGS[protocol](_FILES, "0123456789abcdef" * 2 + "01234567")).encode()]


def _header(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """As http.client gives them: any characters of latin-1 but line ends."""
    return lambda data: read(data.decode("latin-1").replace("\n", "").replace("\r", ""))


def _target(location: str) -> str | None:
    return target_of("https://hub.example/a/b", 302, {"Location": location})


READERS = {
    "header-retry-after": Reader(_header(retry_after), lambda: [b"120", b"Fri, 31 Dec 1999 23:59:59 GMT"]),
    "header-location": Reader(_header(_target), lambda: [b"/x", b"https://[::1]:8000/a?b#c"]),
    **{
        f"listing-{protocol}": Reader(_listing(protocol), _honest(protocol), is_json=True)
        for protocol in LISTINGS
    },
    "listing-web": Reader(_listing("web"), lambda: [_PAGE]),
}
