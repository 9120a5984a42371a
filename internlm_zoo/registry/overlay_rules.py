"""What an overlay, which may be of others, may say of hubs: addresses of its own and variables of its own,
never where this package's hubs keep their logins, nor a variable that holds somebody else's secret.

A hub's own variables are named after it: INTERNLM_ZOO_LAB_TOKEN, INTERNLM_ZOO_LAB_ENDPOINT or LAB_ENDPOINT
for `lab`. GITHUB_TOKEN, AWS_SECRET_ACCESS_KEY and the like are no hub's, whatever it is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from yaml.nodes import Node

from internlm_zoo.registry.document import Step, children, place
from internlm_zoo.registry.schema import Hub

_OF_SERVE = "INTERNLM_ZOO_SERVE_TOKEN"


def own_tokens(hub: Hub, shipped: Mapping[str, Hub]) -> tuple[str, ...]:
    """The variables that are no shipped hub's, and so may go wherever this hub is."""
    ours = {f"INTERNLM_ZOO_{_key(hub)}_{kind}" for kind in ("TOKEN", "AK", "SK")} - {_OF_SERVE}
    taken = {name for other in shipped.values() for name in other.token_env}
    return tuple(name for name in hub.token_env if name in ours - taken)


def overreach(hubs: Mapping[str, Hub], shipped: Mapping[str, Hub]) -> Iterator[tuple[tuple[Step, ...], str]]:
    """Variables that are not a hub's own, and what is not an overlay's to say."""
    for key, hub in hubs.items():
        path = ("hubs", key)
        if hub.name != key or hub.stated_in is not None:
            field = "name" if hub.name != key else "stated_in"
            yield (*path, field), f"hubs.{key} has no field '{field}'"
        theirs = shipped.get(key, Hub(name=key, title=key))
        allowed = {*theirs.token_env, *own_tokens(hub, shipped)}
        for number, name in enumerate(hub.token_env):
            if name not in allowed:
                yield (*path, "token_env", number), _not_own(name, "token", f"INTERNLM_ZOO_{_key(hub)}_TOKEN")
        allowed = {*theirs.endpoint_env, f"{_key(hub)}_ENDPOINT", f"INTERNLM_ZOO_{_key(hub)}_ENDPOINT"}
        for number, name in enumerate(hub.endpoint_env):
            if name not in allowed:
                ours = f"INTERNLM_ZOO_{_key(hub)}_ENDPOINT"
                yield (*path, "endpoint_env", number), _not_own(name, "address", ours)


def marked(hubs: Mapping[str, Hub], shipped: Mapping[str, Hub], tree: Node) -> dict[str, Hub]:
    """The hubs, each with the place of the overlay that states where it is, or how it is spoken to."""
    places = {
        name: node for key, section in children(tree) if key == "hubs" for name, node in children(section)
    }
    return {
        key: hub.model_copy(update={"stated_in": _stated_in(hub, shipped.get(key), places[key])})
        for key, hub in hubs.items()
    }


def _stated_in(hub: Hub, theirs: Hub | None, node: Node) -> str | None:
    if theirs is None or _bare(hub) != _bare(theirs):
        return str(place(node, ("endpoint",)))
    return str(place(node, ("protocol",))) if hub.protocol != theirs.protocol else None


def _bare(hub: Hub) -> str:
    return (hub.endpoint or "").strip().rstrip("/")


def _key(hub: Hub) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", hub.name.upper())


def _not_own(name: str, what: str, ours: str) -> str:
    return f"{name} is not the variable of this hub's {what}; call it {ours}"
