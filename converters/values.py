"""What a value that was read from a file has to be: each function returns it, or raises ValueError with a
clause that says what is expected. Whoever asks says which key of which file it is.

`True` is no number here, and 1 is no truth value: Python lets either stand for the other, and files that
mix them up are written by nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

MAX_ID = 1 << 31
"""Of a token, as transformers and llama.cpp count them."""
MAX_COUNT = 1 << 31
"""Of rows, heads, layers or positions: what a GGUF header can hold, and far beyond any model."""
# Far beyond any number that is in use, and far from where float32 gives out.
_LARGEST = 1e15
_LONGEST = 80


def shown(value: object) -> str:
    """A value in a message, cut short where it is long."""
    text = repr(value[: _LONGEST + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("it is not a text")
    return value


def line(value: object) -> str:
    """What can be shown in one line."""
    if not text(value).isprintable():
        raise ValueError("it is not printable text")
    return str(value)


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("it is neither true nor false")
    return value


def fields(value: object) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError("it is not a table of fields")
    return value


def items(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("it is not a list")
    return value


def number(value: object) -> float:
    """A finite number above zero, of a size that some model could have."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("it is not a number")
    if not 0 < value < _LARGEST:  # NaN is neither, and a huge int is compared without being converted
        raise ValueError(f"it is not a number between 0 and {_LARGEST:g}")
    return value


def whole(value: object, least: int = 0, below: int = 1 << 63) -> int:
    if type(value) is not int or not least <= value < below:
        raise ValueError(f"it is not a whole number from {least} to {below - 1}")
    return value


def count(value: object) -> int:
    """How many of something there are."""
    return whole(value, 1, MAX_COUNT)


def token_id(value: object) -> int:
    return whole(value, 0, MAX_ID)


def of(key: str, value: object, check: Callable[[object], T]) -> T:
    """The value of a key, with the key and the value in what is raised."""
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"{key} is {shown(value)}: {error}") from None
