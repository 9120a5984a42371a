"""What becomes of a request while files are hashed that nobody has hashed yet.

Of huggingface_hub 2.4 (hf_api.model_info) and openmind-hub 1.3 (om_api) a listing is asked for once: a 503 is
the end of it. So listings are begun, and filled with blanks, which mean nothing in front of JSON, until there
is something to say; that also keeps the clients that wait 10 s for a byte (requests' timeout). The pages of
`tree` say in a header whether there are more, so that they are waited for; their client has no limit of time.
A file has its digest in the header, and its clients ask again after a 503, as long as Retry-After says
(huggingface_hub _http.http_backoff, modelscope_hub _download._wait_download_retry).
"""

from __future__ import annotations

import asyncio
import time

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from internlm_zoo.serve.catalogue import Catalogue, Repository
from internlm_zoo.serve.hashing import ServerStopping, Unhashed

_SOON = 3.0
"""Seconds: less than any client waits for the first byte."""
_LOOK, _SELDOM = 0.01, 0.25
_LONGEST = 120
"""Of Retry-After; huggingface_hub waits as long, five times."""


async def find_hashed(catalogue: Catalogue, hub: str, name: str) -> Repository:
    """What `Catalogue.find` finds, when all of it is hashed; no thread waits for it. Raises Unhashed where
    that is not soon."""
    begun = time.monotonic()
    while True:
        try:
            return await asyncio.to_thread(catalogue.find, hub, name)
        except Unhashed as unhashed:
            if not await _is_over(unhashed, begun + _SOON - time.monotonic()):
                raise


async def answer_when_hashed(
    request: web.Request, handler: Handler, catalogue: Catalogue
) -> web.StreamResponse:
    """The answer if it comes soon, else what keeps the client."""
    try:
        return await handler(request)
    except ServerStopping:
        return web.Response(status=503)
    except Unhashed as unhashed:
        if "path" in request.match_info or "FilePath" in request.query:  # it is for a file
            after = str(1 + min(_LONGEST, catalogue.hashing.seconds))
            return web.Response(status=503, headers={hdrs.RETRY_AFTER: after}, text="it is being hashed")
        if _is_waited_for(request):
            return await _later(request, handler, unhashed)
        return await _begun(request, handler, unhashed)


def _is_waited_for(request: web.Request) -> bool:
    resource = request.match_info.route.resource
    return request.method == hdrs.METH_HEAD or (resource is not None and "/tree/" in resource.canonical)


async def _is_over(unhashed: Unhashed, seconds: float) -> bool:
    """Within so many seconds."""
    deadline, pause = time.monotonic() + seconds, _LOOK
    while not unhashed.over and time.monotonic() < deadline:
        await asyncio.sleep(pause)
        pause = min(_SELDOM, 2 * pause)
    return unhashed.over


async def _later(request: web.Request, handler: Handler, unhashed: Unhashed) -> web.StreamResponse:
    while True:
        if await _is_over(unhashed, _SOON):
            try:
                return await handler(request)
            except Unhashed as more:  # files came, or changed
                unhashed = more
            except ServerStopping:
                return web.Response(status=503)


async def _begun(request: web.Request, handler: Handler, unhashed: Unhashed) -> web.StreamResponse:
    """A listing of which the status is said already: where another comes, only the connection can say it."""
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "application/json; charset=utf-8"})
    await response.prepare(request)
    await response.write(b" ")
    while not await _is_over(unhashed, _SOON):
        await response.write(b" ")
    answer = await _later(request, handler, unhashed)
    if answer.status != 200 or not isinstance(answer, web.Response) or not isinstance(answer.body, bytes):
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write(answer.body)
    await response.write_eof()
    return response
