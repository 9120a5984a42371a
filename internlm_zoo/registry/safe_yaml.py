"""YAML that others may have written: nodes of bounded number, depth and expansion, or the place of what is
wrong with it.

Only what JSON has as well, and dates: mappings whose keys are text, lists, texts, finite numbers, true,
false, null. No tags (`!!python/object`, `!!binary`, `!x`), no second document; numbers to the base of 60
(190:20:30) are text. Anchors are shared, and may not multiply what they stand for ("billion laughs").
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import Resolver

# libyaml's, which PyYAML may have been built without.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

DEPTH = 32
"""Mappings and lists within each other. The shipped registry has 9."""
DIGITS = 64
"""Of one integer, as in JSON (converters/formats/jsontext.py)."""
KEY = 1024
"""Characters of a key: YAML's own limit for keys without a question mark."""
EXPANSION = 100_000
"""Nodes that all aliases together may stand for, counted as often as they are named."""

_CORE = "tag:yaml.org,2002:"
_STR, _NULL, _MERGE = (f"{_CORE}{kind}" for kind in ("str", "null", "merge"))
_INT, _FLOAT, _DATE = (f"{_CORE}{kind}" for kind in ("int", "float", "timestamp"))
_READ = {_INT: "number", _FLOAT: "number", _DATE: "date"}
_SCALARS = frozenset({_STR, _NULL, f"{_CORE}bool", *_READ})


@dataclass(frozen=True)
class YamlLimits:
    """bytes: of a file. nodes: keys and values in it."""

    bytes: int
    nodes: int


class Flaw(yaml.MarkedYAMLError):
    """What is wrong, and where."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


def compose(data: bytes, name: str, limits: YamlLimits) -> Node | None:
    """The root; None of an empty document. name: of the file, in the marks of the nodes. Raises
    yaml.YAMLError, for what is beyond the limits too."""
    if len(data) > limits.bytes:
        what = f"it has more than {limits.bytes} bytes"
        raise Flaw(what, yaml.Mark(name, 0, 0, 0, None, 0))
    stream: Any = io.BytesIO(data)
    stream.name = name
    return _Composer(yaml.parse(stream, Loader=_Loader), limits).document()


class _Composer:
    """As PyYAML's, and within limits."""

    def __init__(self, events: Iterator[Any], limits: YamlLimits) -> None:
        self._events = events
        self._left = limits.nodes
        self._most = limits.nodes
        self._expansion = 0
        self._resolver: Any = Resolver()
        self._anchors: dict[str, Node | None] = {}
        self._sizes: dict[int, int] = {}

    def document(self) -> Node | None:
        next(self._events)  # the stream begins
        start = next(self._events)
        if not isinstance(start, yaml.DocumentStartEvent):
            return None
        root = self._node(next(self._events), 0)
        next(self._events)  # the document ends
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise Flaw("a second document begins", after.start_mark)
        return root

    def _node(self, event: Any, depth: int, *, is_key: bool = False) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._left -= 1
        if self._left < 0:
            raise Flaw(f"it has more than {self._most} keys and values", event.start_mark)
        if depth > DEPTH:
            raise Flaw(f"it is nested deeper than {DEPTH}", event.start_mark)
        if event.anchor is not None:
            self._anchors[event.anchor] = None  # while it is read
        is_scalar = isinstance(event, yaml.ScalarEvent)
        node = self._scalar(event, is_key) if is_scalar else self._collection(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self._anchors:
            raise Flaw(f"there is no anchor '{event.anchor}' before it", event.start_mark)
        node = self._anchors[event.anchor]
        if node is None:
            raise Flaw("an anchor contains itself", event.start_mark)
        self._expansion += self._size(node)
        if self._expansion > EXPANSION:
            raise Flaw(f"its aliases stand for more than {EXPANSION} keys and values", event.start_mark)
        return node

    def _size(self, node: Node) -> int:
        return self._sizes.get(id(node), 1)

    def _collection(self, event: Any, depth: int) -> Node:
        is_map = isinstance(event, yaml.MappingStartEvent)
        tag = f"{_CORE}{'map' if is_map else 'seq'}"
        if event.tag not in (None, "!", tag):
            raise Flaw(f"the tag {_written(event.tag)} is not read", event.start_mark)
        node: Node
        if is_map:
            pairs, end = self._pairs(depth + 1)
            node, parts = MappingNode(tag, pairs, event.start_mark, end), [*chain.from_iterable(pairs)]
        else:
            parts, end = self._items(depth + 1)
            node = SequenceNode(tag, parts, event.start_mark, end)
        self._sizes[id(node)] = 1 + sum(map(self._size, parts))
        return node

    def _pairs(self, depth: int) -> tuple[list[tuple[Node, Node]], Any]:
        pairs = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth, is_key=True)
            pairs.append((key, self._node(next(self._events), depth)))
        return pairs, event.end_mark

    def _items(self, depth: int) -> tuple[list[Node], Any]:
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth))
        return items, event.end_mark

    def _scalar(self, event: Any, is_key: bool) -> ScalarNode:
        if event.tag not in (None, "!", _STR):
            raise Flaw(f"the tag {_written(event.tag)} is not read", event.start_mark)
        tag = _STR if event.tag else self._resolver.resolve(ScalarNode, event.value, event.implicit)
        if is_key:
            if len(event.value) > KEY:
                raise Flaw(f"a key has {len(event.value)} characters, more than {KEY}", event.start_mark)
            tag = tag if tag == _MERGE else _STR
        elif tag not in _SCALARS or (tag in (_INT, _FLOAT) and ":" in event.value):
            tag = _STR
        node = ScalarNode(tag, event.value, event.start_mark, event.end_mark, event.style)
        if tag in _READ:
            self._check(node)
        return node

    def _check(self, node: ScalarNode) -> None:
        """That it is a value, and a finite one."""
        what = _READ[node.tag]
        if len(node.value) > DIGITS:
            raise Flaw(f"a {what} has {len(node.value)} digits", node.start_mark)
        try:
            value = SafeConstructor().construct_object(node)
        except (ValueError, OverflowError):
            raise Flaw(f"{node.value} is no {what}", node.start_mark) from None
        if isinstance(value, float) and not math.isfinite(value):
            raise Flaw(f"{node.value} is no finite number", node.start_mark)


def _written(tag: str) -> str:
    return tag.replace(_CORE, "!!")
