"""Reads `mirror.json`: what a mirror directory holds, under which names each hub knows it, and its digests.

A directory without one is served just as well: its repositories go by their folder names and are hashed when
they are first asked for.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from internlm_zoo.errors import IntegrityError

INDEX_NAME = "mirror.json"
_SCHEMA = 1


@dataclass(frozen=True)
class Indexed:
    """One release as the index records it. files: path -> (size in bytes, sha256)."""

    revision: str | None
    files: Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class Index:
    """releases: by folder below the root (`org/name`). names: (hub, repository) -> folder."""

    releases: Mapping[str, Indexed] = field(default_factory=dict)
    names: Mapping[tuple[str, str], str] = field(default_factory=dict)


def read_index(root: Path) -> Index:
    """The index of a mirror directory, empty where there is none. Raises IntegrityError."""
    path = root / INDEX_NAME
    try:
        stat = path.stat()
    except FileNotFoundError:
        return Index()
    return _read(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read(path: Path, *state: int) -> Index:
    """state: what changes whenever the file does, so that it is parsed once and never stale."""
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise IntegrityError(
            f"the index of the mirror is not in the format of schema {_SCHEMA}: {error}",
            where=path,
            fix="write it again with `internlm-zoo mirror apply`",
        ) from error


def _parse(document: Mapping[str, Any]) -> Index:
    if document["schema"] != _SCHEMA:
        raise ValueError(f"schema {document['schema']}")
    releases: dict[str, Indexed] = {}
    names: dict[tuple[str, str], str] = {}
    for release in document["releases"]:
        files = {file["path"]: (int(file["size"]), str(file["sha256"])) for file in release["files"]}
        releases[release["path"]] = Indexed(revision=release.get("revision"), files=files)
        for name in release.get("names", ()):
            names[name["hub"], name["repo"]] = release["path"]
    return Index(releases, names)
