"""One small adapter per hub protocol. An adapter says where things are; it never moves bytes.

A new protocol is one module and one line in `_ADAPTERS`, and passes tests/sources/contract.py like the rest.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from urllib.parse import urlsplit

from internlm_zoo.errors import AccessError, NetworkError, NotFoundError, UnsupportedError
from internlm_zoo.registry.release import Release
from internlm_zoo.registry.schema import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources.authentication import AuthenticatedSource
from internlm_zoo.sources.base import Snapshot, Source
from internlm_zoo.sources.credentials import credentials_of
from internlm_zoo.sources.endpoints import endpoint_of

__all__ = ["LISTS_DIGESTS", "open_source", "resolve_by", "resolve_release"]

# protocol -> module and class, imported when the first hub of that protocol is opened
_ADAPTERS = {
    "huggingface": ("huggingface", "HuggingFaceSource"),
    "modelscope": ("modelscope", "ModelScopeSource"),
    "modelers": ("modelers", "ModelersSource"),
    "openxlab": ("openxlab", "OpenXLabSource"),
    "directory": ("directory", "DirectorySource"),
    "web": ("web", "WebSource"),
}
# Protocols whose listings say what files hash to.
LISTS_DIGESTS = frozenset({"huggingface", "modelscope", "modelers", "directory"})


def open_source(hub: Hub, settings: Settings) -> Source:
    """The adapter for a hub; opens no connection yet.

    Raises UnsupportedError if nothing here speaks its protocol, VariableError for an endpoint that is none,
    NetworkError if it would need a network and `settings.offline` forbids one.
    """
    endpoint = endpoint_of(hub, settings.environ)
    if hub.protocol is None or not endpoint:
        missing = "endpoint" if hub.protocol else "protocol"
        what = f"{hub.name} is listed, but not downloaded from: it has no {missing}"
        raise UnsupportedError(what, f"hubs.{hub.name}")
    if settings.offline and hub.protocol != "directory":
        raise NetworkError(f"{hub.name} was not asked: offline mode is on", fix="leave out `offline`")
    module, adapter = _ADAPTERS[hub.protocol]
    source = getattr(importlib.import_module(f"{__name__}.{module}"), adapter)
    known: Source = source(hub, endpoint, settings)
    credentials = credentials_of(hub, settings)
    if "@" in urlsplit(endpoint).netloc or not (credentials.values or credentials.notes):
        return known
    # The same hub for a visitor: neither variables nor files name a token.
    nobody, nothing = hub.model_copy(update={"token_env": ()}), replace(settings, logins={})
    return AuthenticatedSource(credentials, known, lambda: source(nobody, endpoint, nothing))


def resolve_release(release: Release, hub: Hub, settings: Settings, revision: str | None = None) -> Snapshot:
    """What a release means now, by a source opened for this one question. See `resolve_by`."""
    return resolve_by(open_source(hub, settings), release, revision)


def resolve_by(source: Source, release: Release, revision: str | None = None) -> Snapshot:
    """What a release means now. The snapshot's `repo` says which of the release's names answered.

    revision: defaults to the registry's. Names are tried in the registry's order while the hub has no such
    repository or shows none to this user; if none is left, the error for the first one is raised.
    """
    refusals: list[AccessError | NotFoundError] = []
    for repo in release.names:
        try:
            return source.resolve(repo, revision or release.revision)
        except (AccessError, NotFoundError) as error:
            refusals.append(error)
    raise refusals[0]
