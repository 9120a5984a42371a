"""JSON that strangers, or a damaged disk, may have written: a value of bounded size and depth, or a sentence.

Python's own reader takes more than JSON is (RFC 8259): NaN, Infinity, 1e999 as infinity, halves of surrogate
pairs. What lets those in fails far from here, and in other words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

DEPTH = 64
"""Objects and arrays within each other. A released tokenizer.json has 8."""
DIGITS = 64
"""Of one integer. transformers writes model_max_length with 31 where nobody has set it."""
VALUES = 4_000_000
"""Commas and opening brackets: a value of Python has some hundred bytes. The largest tokenizer.json of
anybody's have 2 million of them, the header of a file of 100,000 tensors has 600,000."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # half a character, unless another half follows
_SHOWN = 20


def json_value(text: bytes, most: int, *, unique: bool = False, values: int = VALUES) -> Any:
    """The value of a JSON document of `most` bytes at most. unique: a key that an object has twice is
    refused; otherwise the last of them counts, as with everybody else. values: how many it may have, as
    VALUES counts them. Raises ValueError with a clause that says what is wrong with it ("it is nested deeper
    than 64")."""
    if len(text) > most:
        raise ValueError(f"it has {len(text)} bytes, and {most} are read at most")
    if sum(map(text.count, (b",", b"[", b"{"))) > values:
        raise ValueError(f"it has more than {values} values")
    try:
        value = _parse(text, _unique if unique else None)
    except RecursionError:
        _too_deep()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} of it is not UTF-8") from None
    _check_depth(value)
    if _SURROGATE.search(text):
        _check_text(value)
    return value


def _parse(text: bytes, pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None) -> Any:
    try:
        return json.loads(
            text.decode("utf-8-sig"),  # editors of Windows begin with a byte order mark
            object_pairs_hook=pairs,
            parse_int=_int,
            parse_float=_float,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} (line {error.lineno}, column {error.colno})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return fields


def _int(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {digits[:_SHOWN]} is too large")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _too_deep() -> NoReturn:
    raise ValueError(f"it is nested deeper than {DEPTH}")


def _check_depth(value: Any) -> None:
    """Level by level, without recursion."""
    level, depth = [value], 0
    while level := [part for part in level if type(part) in (dict, list)]:
        depth += 1
        if depth > DEPTH:
            _too_deep()
        level = [item for part in level for item in (part.values() if type(part) is dict else part)]


def _check_text(value: Any) -> None:
    """No text has half of a surrogate pair, which cannot be written anywhere."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text has half of a surrogate pair") from None
