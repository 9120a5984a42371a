"""Inputs varied: bytes and runs of them, or in JSON one node of the tree, become what they should not be."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

# Written into the text as they stand: no values of Python's, or such as json would write otherwise.
_RAW = {
    "@inf": "1e999",
    "@nan": "NaN",
    "@digits": "9" * 5000,
    "@half": '"\\ud800"',
    "@deep": "[" * 500 + "]" * 500,
}
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.5, -0.5, 2**31, 2**63, 2**64, 10**15, 10**30, 10**60, 1e308, 1e-320,
    "", " ", "0", "x", "true", "1e999", "nan", "../../x", "/etc/passwd", "C:\\x", "a\x00b", "\x1b[31mred",
    "\u202egnp", "\u2028", "é" * 300, "x" * 5000, "{{ 7 * 7 }}", "[bold]x[/]", "con", "a/" * 200,
    [], {}, [[]], [None], [0, 1], ["x"] * 50, {"": 0}, {"x": {"x": {}}}, *_RAW,
)  # fmt: skip


# Of numbers in headers, little-endian.
_NUMBERS = tuple(
    value.to_bytes(size, "little")
    for size in (1, 2, 4, 8)
    for value in (0, 1, 127, (1 << 8 * size - 1) - 1, (1 << 8 * size) - 1)
)
_PIECES = (
    b"", b"\0", b"\n", b"\xff" * 8, b"../", b"[" * 200, b'{"a":' * 80, b"1e999", b"9" * 400, b"NaN", b"null",
    b"-", b"&a [*a]", b"!!python/name:os.system ", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"{{", b"%}",
    b"\x1b[31m", b"PK\x05\x06", b"GGUF",
)  # fmt: skip
LONGEST = 1 << 16


def varied(data: bytes, other: bytes, is_json: bool, dice: random.Random) -> bytes:
    """other: another input of the same reader, which may lend a part."""
    if is_json and dice.random() < 0.6:
        try:
            return _values_varied(data, dice)[:LONGEST]
        except ValueError:
            pass
    for _ in range(dice.choice((1, 1, 1, 2, 3, 6))):
        data = _bytes_varied(data, other, dice)
    return data[:LONGEST]


def _bytes_varied(data: bytes, other: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data) + 1)
    end = min(len(data), at + dice.choice((1, 1, 2, 4, 8, dice.randrange(1, 200))))
    match dice.randrange(8):
        case 0 | 1:
            return data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]
        case 2:
            return data[:at] + data[end:]
        case 3:
            return data[:at] + data[at:end] * dice.choice((2, 2, 3, 50)) + data[end:]
        case 4:
            return data[:at] + dice.choice(_PIECES) + data[dice.choice((at, end)) :]
        case 5:
            number = dice.choice(_NUMBERS)
            return data[:at] + number + data[at + len(number) :]
        case 6:
            start = dice.randrange(len(other) + 1)
            return data[:at] + other[start : start + dice.randrange(1, 200)] + data[end:]
        case _:
            return data[:at] if dice.random() < 0.3 else data[:at] + data[at:end][::-1] + data[end:]


def _values_varied(data: bytes, dice: random.Random) -> bytes:
    """Raises ValueError for what is no JSON, or too deep to be walked."""
    try:
        tree = {"": json.loads(data)}
        for _ in range(dice.choice((1, 1, 1, 2, 4))):
            _vary(tree, dice)
        text = json.dumps(tree[""], ensure_ascii=dice.random() < 0.5)
    except RecursionError:
        raise ValueError("too deep") from None
    for mark, raw in _RAW.items():
        text = text.replace(f'"{mark}"', raw)
    return text.encode("utf-8", "surrogatepass")


def _vary(tree: dict[str, Any], dice: random.Random) -> None:
    nodes = list(_nodes(tree))
    parent, key = dice.choice(nodes)
    match dice.randrange(5):
        case 0 | 1:
            parent[key] = dice.choice(HOSTILE)
        case 2:  # something from elsewhere in the document
            other, at = dice.choice(nodes)
            parent[key] = json.loads(json.dumps(other[at]))
        case 3:
            parent[key] = [parent[key]] if dice.random() < 0.5 else {"x": parent[key]}
        case 4 if isinstance(parent, dict) and parent is not tree:
            value = parent.pop(key)
            if dice.random() < 0.7:
                parent[str(dice.choice(HOSTILE))] = value
        case _:
            parent[key] = -parent[key] if type(parent[key]) in (int, float) else str(parent[key])[:100]


def _nodes(parent: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value: what it is in, and its key or index there."""
    for key, value in list(parent.items() if isinstance(parent, dict) else enumerate(parent)):
        yield parent, key
        if isinstance(value, dict | list):
            yield from _nodes(value)
