"""The seam between hubs and everything else: values, and one small protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from internlm_zoo.files import File, FilesByPath

if TYPE_CHECKING:
    from internlm_zoo.sources.authentication import Credentials


DEFAULT_NAMES = (None, "main", "master")
"""Of the one revision that a hub without revisions has."""
_LISTING = "listing-"


@dataclass(frozen=True)
class Snapshot(FilesByPath):
    """What a name means now. revision: the hub's immutable id where it has one; requested: what was asked.
    updated: when it last changed, where the hub says so. notes: on how it was had."""

    hub: str
    repo: str
    revision: str
    requested: str | None
    files: tuple[File, ...]
    updated: datetime | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Location:
    """Where the bytes of one file are. headers may hold credentials, meant for the URL's own host alone.
    expires: seconds since the epoch after which the source must be asked again. credentials: whose
    they are."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    expires: float | None = None
    credentials: Credentials | None = field(default=None, repr=False, compare=False)


def listing_revision(facts: Iterable[tuple[str, ...]]) -> str:
    """A stable name for what a hub lists that gives no commit: `listing-` and 32 hex digits, the same for the
    same facts, in any order. facts: per file its path and whatever the hub says about its content."""
    lines = sorted("\0".join(fact) for fact in facts)
    return _LISTING + hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def is_listing(revision: str | None) -> bool:
    """Whether a revision is such a name, which no hub can be asked for."""
    return revision is not None and revision.startswith(_LISTING)


class Source(Protocol):
    """One hub. Answers where things are; never moves bytes."""

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        """Raises NotFoundError, AccessError, NetworkError, IntegrityError (hostile listing)."""

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        """Raises NotFoundError if the snapshot has no such file, NetworkError."""
