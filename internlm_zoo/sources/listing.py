"""A stable name for what a hub lists, for hubs that give no commit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_PREFIX = "listing-"


def listing_revision(facts: Iterable[tuple[str, ...]]) -> str:
    """`listing-` and 32 hex digits: the same for the same facts, in any order.

    facts: per file its path and whatever the hub says about its content.
    """
    lines = sorted("\0".join(fact) for fact in facts)
    return _PREFIX + hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def is_listing(revision: str | None) -> bool:
    """Whether a revision is such a name, which no hub can be asked for."""
    return revision is not None and revision.startswith(_PREFIX)
