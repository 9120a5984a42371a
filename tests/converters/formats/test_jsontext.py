"""The one reader of JSON that others wrote: what Python's own reader gives, or a ValueError with a clause."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.formats.jsontext import DEPTH, DIGITS, json_value

MOST = 1 << 20
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(value=VALUES, ascii_only=st.booleans())
def test_what_python_writes_is_read_as_it_was(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert json_value(text, MOST) == value


@given(text=st.binary(max_size=60))
def test_other_bytes_are_a_value_or_a_clause(text: bytes) -> None:
    try:
        json_value(text, MOST)
    except ValueError as error:
        assert type(error) is ValueError and str(error)


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        (b"", "Expecting value (line 1, column 1)"),
        (b'{\n"a" 1}', "Expecting ':' delimiter (line 2, column 5)"),
        (b"\xff", "byte 0 of it is not UTF-8"),
        (b"NaN", "NaN is no number of JSON"),
        (b"[-Infinity]", "-Infinity is no number of JSON"),
        (b"1e999", "the number 1e999 is too large"),
        (b"-1e999", "the number -1e999 is too large"),
        (b"9" * (DIGITS + 1), f"a number has {DIGITS + 1} digits"),
        (b"9" * 5000, "a number has 5000 digits"),
        (b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1), f"it is nested deeper than {DEPTH}"),
        (b"[" * 100_000, f"it is nested deeper than {DEPTH}"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, f"it is nested deeper than {DEPTH}"),
        (b'["\\ud800"]', "a text has half of a surrogate pair"),
        (b'{"\\uDC00x": 1}', "a text has half of a surrogate pair"),
        (b" " * (MOST + 1), f"it has {MOST + 1} bytes, and {MOST} are read at most"),
    ],
    ids=lambda value: value[:12].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_what_is_not_json_or_too_much_of_it_is_said(text: bytes, clause: str) -> None:
    with pytest.raises(ValueError) as caught:
        json_value(text, MOST)
    assert str(caught.value) == clause


def test_what_honest_files_hold_is_read() -> None:
    """The length that transformers writes where nobody has set one, a mark of byte order, two surrogates."""
    text = b'\xef\xbb\xbf{"model_max_length": 1000000000000000019884624838656, "x": "\\ud83d\\ude00"}'
    assert json_value(text, MOST) == {"model_max_length": int(1e30), "x": "\U0001f600"}
    assert json_value(b"1e-500", MOST) == 0.0
    assert json_value(b"[" * DEPTH + b"]" * DEPTH, MOST) is not None


def test_a_key_that_appears_twice_is_refused_where_that_is_asked() -> None:
    assert json_value(b'{"a": 1, "a": 2}', MOST) == {"a": 2}
    with pytest.raises(ValueError, match="a key appears twice"):
        json_value(b'{"a": 1, "a": 2}', MOST, unique=True)
