"""One read-only web application that speaks the download protocols of the four hubs on one port."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from converters.system.filesystem import TOO_MANY
from internlm_zoo.errors import IntegrityError, NotFoundError, UnsupportedError
from internlm_zoo.serve.authenticator import Authenticator
from internlm_zoo.serve.catalogue import Catalogue
from internlm_zoo.serve.huggingface import HuggingFaceApi
from internlm_zoo.serve.modelers import ModelersApi
from internlm_zoo.serve.modelscope import ModelScopeApi
from internlm_zoo.serve.openxlab import OpenXLabApi
from internlm_zoo.serve.pending import answer_when_hashed
from internlm_zoo.store.mirror_index import read_index

# OpenXLabApi's own package reads no variable. openmind_hub reads OPENMIND_HUB_ENDPOINT, but cannot even be
# imported while that is not https.
_VARIABLES = ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT", "INTERNLM_ZOO_OPENXLAB_ENDPOINT")
_OF_MODELERS = {"http": "INTERNLM_ZOO_MODELERS_ENDPOINT", "https": "OPENMIND_HUB_ENDPOINT"}


def build_app(root: Path, *, tokens: Collection[str] = frozenset()) -> web.Application:
    """The application for the repositories `root/<org>/<name>/`. tokens: who may read; none: everyone.

    Raises NotFoundError if root is no directory, IntegrityError if its `mirror.json` cannot be understood,
    UnsupportedError if a later version wrote that.
    """
    if not root.is_dir():
        raise NotFoundError("there is no such directory to serve", where=root)
    read_index(root)
    return app_for(Catalogue(root), Authenticator(frozenset(tokens)))


@web.middleware
async def _later_if_too_many_files(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Where few may be open, clients ask again."""
    try:
        return await handler(request)
    except OSError as error:
        if error.errno not in TOO_MANY:
            raise
        return web.Response(status=503, headers={hdrs.RETRY_AFTER: "1"}, text="too many files are open")
    except (IntegrityError, UnsupportedError) as error:  # of the mirror's index, replaced since the start
        return web.json_response({"error": error.what}, status=500)


def app_for(
    catalogue: Catalogue,
    authenticator: Authenticator,
    *,
    url_seconds: float = 3600,
    clock: Callable[[], float] = time.time,
) -> web.Application:
    """The application over a catalogue of one's own. url_seconds: the life of OpenXLab's URLs, by clock."""

    @web.middleware
    async def keeping(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await answer_when_hashed(request, handler, catalogue)

    async def over(_: web.Application) -> None:
        catalogue.hashing.close()

    app = web.Application(middlewares=[keeping, _later_if_too_many_files])
    app.on_shutdown.append(over)  # before the server waits for its requests
    app.add_routes(HuggingFaceApi(catalogue, authenticator).routes())
    app.add_routes(ModelScopeApi(catalogue, authenticator).routes())
    app.add_routes(ModelersApi(catalogue, authenticator).routes())
    app.add_routes(OpenXLabApi(catalogue, authenticator, url_seconds, clock).routes())
    app.router.add_route("*", "/{anything:.*}", _nothing_here)
    return app


def environment(url: str) -> dict[str, str]:
    """The environment variables that send each hub's clients to this server."""
    return dict.fromkeys((*_VARIABLES, _OF_MODELERS[url.partition(":")[0]]), url)


async def _nothing_here(request: web.Request) -> web.Response:
    # RepoNotFound is what the Hugging Face client understands; the others read the status.
    return web.json_response({"error": "not found"}, status=404, headers={"X-Error-Code": "RepoNotFound"})
