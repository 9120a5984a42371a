"""The OpenXLabApi open API, as far as downloads need it: AK/SK sign-in, signed URLs, the bytes behind them.

Protocol facts: openxlab 0.1.3 (xlab/handler/user_token.py, model/clients/openapi_client.py), whose client is
the specification. The package reads only whether a msgCode is 10000; which other codes the service uses
is unknown, so a refusal here is 10 and the HTTP status it amounts to. No size is listed, and no real digest.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatch
from typing import Any

from aiohttp import hdrs, web
from yarl import URL

from converters.formats.access import regular
from internlm_zoo.errors import NotFoundError
from internlm_zoo.serve.authenticator import Authenticator
from internlm_zoo.serve.catalogue import Catalogue, ServedFile
from internlm_zoo.serve.files import send
from internlm_zoo.serve.pending import find_hashed

HUB = "openxlab"
DOWNLOADS = "/openxlab/download"
_SIGN_IN = "/api/v1/sso-be/api/v1/open"
_LISTING = "/api/v1/model-center/api/v1/cli/repository/getFileDownloadUrl"
_TELEMETRY = "/api/v1/data-bury/api/v1/bury/collect"
_OK = "10000"
_EDGE = 64  # bytes at both ends, of which the hub's `hash` is made
_TOKEN_SECONDS = 3600
_REFRESH_SECONDS = 7 * 24 * 3600


class Refused(Exception):
    """A request that is answered with a msgCode other than 10000."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = f"10{status}", message


@dataclass(frozen=True)
class OpenXLabApi:
    """Handlers over one catalogue. url_seconds: how long a download URL is good for, by the clock."""

    catalogue: Catalogue
    authenticator: Authenticator
    url_seconds: float
    clock: Callable[[], float]

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(_SIGN_IN + "/auth", _answering(self.auth)),
            web.post(_SIGN_IN + "/getJwt", _answering(self.token)),
            web.post(_SIGN_IN + "/refreshJwt", _answering(self.refreshed)),
            web.post(_LISTING, _answering(self.download_urls)),
            web.post(_TELEMETRY, _answering(self.telemetry)),
            web.get(DOWNLOADS + "/{org}/{name}/{path:.+}", self.download),
        ]

    async def auth(self, request: web.Request) -> dict[str, Any]:
        access_key = _text(await _body(request), "ak")
        return {"nonce": self.authenticator.nonce(access_key), "algorithm": "HmacSHA256"}

    async def token(self, request: web.Request) -> dict[str, Any]:
        body = await _body(request)
        access_key = _text(body, "ak")
        if not self.authenticator.proves(access_key, _text(body, "d")):
            raise Refused(401, "the access key and the secret key do not match")
        return self._issue(access_key)

    async def refreshed(self, request: web.Request) -> dict[str, Any]:
        body = await _body(request)
        if not self.authenticator.accepts("refresh", _text(body, "refresh_token")):
            raise Refused(401, "the refresh token is not valid")
        return self._issue(_text(body, "ak"))

    async def telemetry(self, request: web.Request) -> dict[str, Any]:
        await request.read()
        return {}

    async def download_urls(self, request: web.Request) -> dict[str, Any]:
        body = await _body(request)
        if not self.authenticator.accepts("access", request.headers.get(hdrs.AUTHORIZATION)):
            raise Refused(401, "this repository asks for a signed-in user")
        name = f"{_text(body, 'userName')}/{_text(body, 'repositoryName')}"
        repository = await find_hashed(self.catalogue, HUB, name)
        wanted = _wanted(repository.entries, body)
        hashes = await asyncio.to_thread(lambda: [_edge_md5(entry) for entry in wanted])
        listed = {
            entry.path: {"url": str(self._url(request, name, entry)), "fileName": entry.path, "hash": hash}
            for entry, hash in zip(wanted, hashes, strict=True)
        }
        weights = {entry.path for entry in wanted if entry.pointer is not None}
        return {
            "modelNames": {path: value for path, value in listed.items() if path in weights},
            "filePaths": {path: value for path, value in listed.items() if path not in weights},
        }

    async def download(self, request: web.Request) -> web.StreamResponse:
        asked = request.match_info
        name, path = f"{asked['org']}/{asked['name']}", asked["path"]
        expires = request.query.get("Expires", "")
        if not self.authenticator.signed(request.query.get("Signature", ""), name, path, expires):
            return _denied("The request signature we calculated does not match the signature you provided.")
        if float(expires) < self.clock():
            return _denied("Request has expired.")
        try:
            entry = (await find_hashed(self.catalogue, HUB, name)).entry(path)
        except NotFoundError as error:
            return web.Response(status=404, text=error.what)
        return send(request, entry, etag=entry.sha256[:32].upper(), headers={})

    def _url(self, request: web.Request, name: str, entry: ServedFile) -> URL:
        expires = f"{self.clock() + self.url_seconds:.3f}"
        signature = self.authenticator.sign(name, entry.path, expires)
        place = request.url.origin().with_path(f"{DOWNLOADS}/{name}/{entry.path}")
        return place.with_query(Expires=expires, Signature=signature)

    def _issue(self, access_key: str) -> dict[str, Any]:
        expiration, refresh = time.time() + _TOKEN_SECONDS, time.time() + _REFRESH_SECONDS
        return {
            "jwt": self.authenticator.issue("access", access_key, expiration),
            "expiration": _moment(expiration),
            "sso_uid": access_key,
            "refresh_token": self.authenticator.issue("refresh", access_key, refresh),
            "refresh_expiration": _moment(refresh),
        }


def _answering(
    handler: Callable[[web.Request], Awaitable[dict[str, Any]]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return _envelope(_OK, "success", await handler(request))
        except Refused as error:
            return _envelope(error.code, error.message, None)
        except NotFoundError as error:
            return _envelope("10404", error.what, None)

    return answer


def _envelope(code: str, message: str, data: dict[str, Any] | None) -> web.Response:
    trace = uuid.uuid4().hex
    inner = {"traceId": trace, "msgCode": code, "msg": message, "data": data}
    return web.json_response({"traceId": trace, "msgCode": _OK, "msg": "success", "data": inner})


def _denied(message: str) -> web.Response:
    # The service hands out object-storage URLs; this is how that storage refuses one.
    body = f"<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>"
    return web.Response(status=403, text=body, content_type="application/xml")


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError as error:
        raise Refused(400, "the body is not JSON") from error
    if not isinstance(body, dict):
        raise Refused(400, "the body is not a JSON object")
    return body


def _text(body: dict[str, Any], key: str) -> str:
    if not isinstance(body.get(key), str):
        raise Refused(400, f"the body has no {key}")
    return str(body[key])


def _wanted(entries: Iterable[ServedFile], body: dict[str, Any]) -> list[ServedFile]:
    names, paths, ignored = (body.get(key) or [] for key in ("modelNames", "filePaths", "ignore"))
    everything = not names and not paths
    kept = [entry for entry in entries if everything or entry.path in {*names, *paths}]
    return [entry for entry in kept if not any(fnmatch(entry.path, str(pattern)) for pattern in ignored)]


def _edge_md5(entry: ServedFile) -> str:
    """MD5 of the first and last 64 bytes; of the whole file if it has no more than 128."""
    with open(entry.file, "rb", opener=regular) as stream:
        if entry.size <= 2 * _EDGE:
            return hashlib.md5(stream.read(), usedforsecurity=False).hexdigest()
        first = stream.read(_EDGE)
        stream.seek(-_EDGE, 2)
        return hashlib.md5(first + stream.read(_EDGE), usedforsecurity=False).hexdigest()


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
