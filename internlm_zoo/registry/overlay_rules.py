"""What an overlay, which may be of others, may say of hubs: addresses of its own and variables of its own,
never where this package's hubs keep their logins, nor a variable that holds somebody else's secret.

A hub's own variables are named after it: INTERNLM_ZOO_LAB_TOKEN, INTERNLM_ZOO_LAB_ENDPOINT or LAB_ENDPOINT
for `lab`. GITHUB_TOKEN, AWS_SECRET_ACCESS_KEY and the like are no hub's, whatever it is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from yaml.nodes import Node

from internlm_zoo.registry.document import Finding, children, place
from internlm_zoo.registry.schema import Hub

_OF_SERVE = "INTERNLM_ZOO_SERVE_TOKEN"


def own_tokens(hub: Hub, shipped: Mapping[str, Hub]) -> tuple[str, ...]:
    """The variables that are no shipped hub's, and so may go wherever this hub is."""
    ours = {f"INTERNLM_ZOO_{_key(hub)}_{kind}" for kind in ("TOKEN", "AK", "SK")} - {_OF_SERVE}
    taken = {name for other in shipped.values() for name in other.token_env}
    return tuple(name for name in hub.token_env if name in ours - taken)


def overreach(hubs: Mapping[str, Hub], shipped: Mapping[str, Hub]) -> Iterator[Finding]:
    """Variables that are not a hub's own, and what is not an overlay's to say."""
    for key, hub in hubs.items():
        path = ("hubs", key)
        if hub.name != key or hub.stated_in is not None:
            field = "name" if hub.name != key else "stated_in"
            yield (*path, field), f"hubs.{key} has no field '{field}'"
        known = shipped.get(key, Hub(name=key, title=key))
        own = _key(hub)
        tokens = {*known.token_env, *own_tokens(hub, shipped)}
        addresses = {*known.endpoint_env, f"{own}_ENDPOINT", f"INTERNLM_ZOO_{own}_ENDPOINT"}
        for field, kind, allowed in (("token_env", "token", tokens), ("endpoint_env", "address", addresses)):
            ours = f"INTERNLM_ZOO_{own}_{field.removesuffix('_env').upper()}"
            for number, name in enumerate(getattr(hub, field)):
                if name not in allowed:
                    what = f"{name} is not the variable of this hub's {kind}; call it {ours}"
                    yield (*path, field, number), what


def marked(hubs: Mapping[str, Hub], shipped: Mapping[str, Hub], tree: Node) -> dict[str, Hub]:
    """The hubs, each with the place of the overlay that states where it is, or how it is spoken to."""
    places = {
        name: node for key, section in children(tree) if key == "hubs" for name, node in children(section)
    }
    return {
        key: hub.model_copy(update={"stated_in": _stated_in(hub, shipped.get(key), places[key])})
        for key, hub in hubs.items()
    }


def _stated_in(hub: Hub, known: Hub | None, node: Node) -> str | None:
    if known is None or _bare(hub) != _bare(known):
        return str(place(node, ("endpoint",)))
    return str(place(node, ("protocol",))) if hub.protocol != known.protocol else None


def _bare(hub: Hub) -> str:
    return (hub.endpoint or "").strip().rstrip("/")


def _key(hub: Hub) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", hub.name.upper())
