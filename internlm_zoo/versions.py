"""Reads a document of ours, and tells one that a later version wrote from one that is damaged."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from converters.formats.jsontext import json_value
from converters.saved import SavedFormat
from internlm_zoo.errors import ZooError

MOST = 64 << 20
"""Bytes of a record, or of the index of a mirror: some 300,000 files."""
_UNKNOWN = frozenset({"unexpected_keyword_argument", "extra_forbidden", "literal_error"})

T = TypeVar("T")


def read_document(
    text: bytes, form: SavedFormat, adapter: TypeAdapter[T], damaged: ZooError, otherwise: str
) -> T:
    """Its value. damaged: raised for what is none, with the reason as its cause. Raises UnsupportedError for
    one of a later version, with `otherwise` as what to do besides an update."""
    try:
        document = json_value(text, MOST)
        if form.reads(document):
            return adapter.validate_python(document)
    except ValidationError as error:
        if not says_more(error):
            raise damaged from error
        raise form.newer(damaged.where or "", otherwise) from error
    except ValueError as error:
        raise damaged from error
    raise form.newer(damaged.where or "", otherwise) if form.is_newer(document) else damaged


def says_more(error: ValidationError) -> bool:
    """Whether all that is wrong are names that this version does not know: a later one wrote them."""
    return all(found["type"] in _UNKNOWN for found in error.errors())
