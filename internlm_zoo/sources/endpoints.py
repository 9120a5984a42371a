"""Where a hub is spoken to: the registry's address, or the one that a variable has instead."""

from __future__ import annotations

from collections.abc import Mapping

from internlm_zoo.net.addresses import WEB, parse_address, tidy
from internlm_zoo.registry.schema import Hub


def endpoint_of(hub: Hub, environ: Mapping[str, str]) -> str | None:
    """A URL without a slash at its end, perhaps with user and password; a directory for hubs that are one.

    Raises VariableError for what a variable, or whoever names the hub, gives as a web address and is none.
    """
    variable = next((name for name in hub.endpoint_env if tidy(environ.get(name, ""))), None)
    endpoint = tidy(hub.endpoint_in(environ) or "")
    if hub.protocol == "directory" or not endpoint:
        return endpoint or None
    parse_address(endpoint, variable or f"the address of {hub.title}", WEB)
    return endpoint.rstrip("/")
