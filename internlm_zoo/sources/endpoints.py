"""Where a hub is spoken to: the registry's address, or the one that a variable has instead."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from internlm_zoo.net.addresses import WEB, ip_of, parse_address, unquoted
from internlm_zoo.registry.schema import Hub


def variable_of(hub: Hub, environ: Mapping[str, str]) -> str | None:
    """The variable by which the user says where it is."""
    return next((name for name in hub.endpoint_env if unquoted(environ.get(name, ""))), None)


def is_plaintext(endpoint: str) -> bool:
    """Whether others can read what is sent there: plain http to another machine."""
    parts = urlsplit(endpoint)
    return parts.scheme.lower() == "http" and not _is_loopback(parts.hostname or "")


def endpoint_of(hub: Hub, environ: Mapping[str, str]) -> str | None:
    """A URL without a slash at its end, perhaps with user and password; a directory for hubs that are one.

    Raises VariableError for what a variable, or whoever names the hub, gives as a web address and is none.
    """
    variable = variable_of(hub, environ)
    endpoint = unquoted(hub.endpoint_in(environ) or "")
    if hub.protocol == "directory" or not endpoint:
        return endpoint or None
    parse_address(endpoint, variable or f"the address of {hub.title}", WEB)
    return endpoint.rstrip("/")


def _is_loopback(host: str) -> bool:
    address = ip_of(host)
    plain = getattr(address, "ipv4_mapped", None) or address
    return host.lower().rstrip(".") == "localhost" or (plain is not None and plain.is_loopback)
