"""Every form in which something is saved to be read again, by this version or another.

A document says the number of its form under `schema`; what was written before there were such numbers has
none. An older one is read, or begun anew; what a later version wrote is left as it is and refused by name.
docs/files.md says where each lies and what becomes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from converters.errors import UnsupportedError

METADATA = ".internlm-zoo"
"""Our own folder beside a model's files: what is in it is neither weights nor file of a release."""


@dataclass(frozen=True)
class SavedFormat:
    """what: its name in a message. file: its name, or how it ends. schema: the number that is written;
    oldest: the lowest that is read."""

    what: str
    file: str
    schema: int = 1
    oldest: int = 0

    def marked(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What to write: the fields, after the number of their form."""
        return {"schema": self.schema, **fields}

    def reads(self, document: object) -> bool:
        return self.oldest <= _number(document) <= self.schema

    def is_newer(self, document: object) -> bool:
        return _number(document) > self.schema

    def newer(self, where: str | Path, otherwise: str) -> UnsupportedError:
        """otherwise: what to do besides an update."""
        what = f"{self.what} was written by a newer version of internlm-zoo"
        return UnsupportedError(what, where, f"update internlm-zoo, or {otherwise}")


def _number(document: object) -> int:
    """0 of one that says none; -1 of what is no document, or says something that is no number. The first
    records and download journals said it under `version`."""
    number = document.get("schema", document.get("version", 0)) if isinstance(document, dict) else -1
    return number if type(number) is int else -1


def tool_version() -> str:
    try:
        return metadata.version("internlm-zoo")
    except metadata.PackageNotFoundError:
        return "(not installed)"


CONVERSION = SavedFormat("the record of the conversion", "conversion.json")
IDENTITY = SavedFormat("what lies there of an unfinished conversion", "identity", oldest=1)
BATCHES = SavedFormat("the journal of the conversion", "journal", oldest=1)
HOLDER = SavedFormat("what a lock file says of its holder", ".lock")
RELEASE = SavedFormat("the record of the download", "release.json")
SMOKE = SavedFormat("the record of the smoke test", "smoke.json", oldest=1)
HASH_CACHE = SavedFormat("the cache of digests", "adopted.jsonl")
ALIAS = SavedFormat("what is noted of a file that has no sha256", "<name>.<sha256>")
BLOCK_DIGESTS = SavedFormat("the list of the digests of blocks", ".json")
PART_JOURNAL = SavedFormat("the journal of the download", ".journal", schema=2, oldest=2)
MIRROR = SavedFormat("the index of the mirror", "mirror.json")
LOCK = SavedFormat("the lock", "registry.lock")
