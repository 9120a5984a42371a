"""Tells a document of ours that a later version wrote from one that is damaged."""

from __future__ import annotations

from pydantic import ValidationError

_UNKNOWN = frozenset({"unexpected_keyword_argument", "extra_forbidden", "literal_error"})


def is_newer(document: object, error: ValidationError, key: str, known: int) -> bool:
    """Whether a document that is not as it should be is of a later version: by the number that it has under a
    key, or because all that is wrong are names that this version does not know."""
    version = document.get(key) if isinstance(document, dict) else None
    return (isinstance(version, int) and version > known) or all(
        found["type"] in _UNKNOWN for found in error.errors()
    )
