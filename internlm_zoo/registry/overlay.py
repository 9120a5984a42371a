"""Puts one registry file on top of another: adds hubs, families, models, releases, overrides single fields.

Mappings merge key by key. The lists named in KEYED merge item by item, where the key fields are equal; any
other list, and any plain value, is replaced.
"""

from __future__ import annotations

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

KEYED: dict[tuple[str, ...], tuple[str, ...]] = {
    # list                           items are the same if these are equal
    ("models", "*", "releases"): ("hub", "format"),
    ("evaluations",): ("id",),
    ("evaluations", "*", "rows"): ("benchmark",),
}
_OPEN = ("hubs", "families", "models")
_NULL = "tag:yaml.org,2002:null"


def merge(base: MappingNode, over: MappingNode) -> Node:
    """A new tree; neither of the two is changed (anchors may share their nodes)."""
    return _merge(base, over, ())


def _merge(base: Node, over: Node, path: tuple[str, ...]) -> Node:
    if isinstance(base, MappingNode) and isinstance(over, MappingNode):
        return MappingNode(base.tag, _pairs(base, over, path), base.start_mark, base.end_mark)
    keys = KEYED.get(path)
    if keys and isinstance(base, SequenceNode) and isinstance(over, SequenceNode):
        return SequenceNode(base.tag, _items(base, over, path, keys), base.start_mark, base.end_mark)
    return over


def _pairs(base: MappingNode, over: MappingNode, path: tuple[str, ...]) -> list[tuple[Node, Node]]:
    changes = {key.value: (key, value) for key, value in over.value}
    pairs: list[tuple[Node, Node]] = []
    for key, value in base.value:
        if key.value in changes:
            new_key, new = changes.pop(key.value)
            inner = (*path, "*") if path and path[-1] in _OPEN else (*path, key.value)
            pairs.append((new_key, _merge(value, new, inner)))
        else:
            pairs.append((key, value))
    return pairs + list(changes.values())


def _items(
    base: SequenceNode, over: SequenceNode, path: tuple[str, ...], keys: tuple[str, ...]
) -> list[Node]:
    items: dict[tuple[str | None, ...], Node] = {_identity(item, keys): item for item in base.value}
    for item in over.value:
        name = _identity(item, keys)
        items[name] = _merge(items[name], item, (*path, "*")) if name in items else item
    return list(items.values())


def _identity(item: Node, keys: tuple[str, ...]) -> tuple[str | None, ...]:
    """The values of the key fields; for anything but a mapping, something equal to nothing else."""
    if not isinstance(item, MappingNode):
        return (str(id(item)),)
    fields = {key.value: value for key, value in item.value}
    return tuple(_plain(fields.get(key)) for key in keys)


def _plain(node: Node | None) -> str | None:
    return node.value if isinstance(node, ScalarNode) and node.tag != _NULL else None
