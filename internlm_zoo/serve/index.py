"""Reads `mirror.json`: what a mirror directory holds, under which names each hub knows it, and its digests.

A directory without one is served just as well: its repositories go by their folder names and are hashed when
they are first asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from converters.formats.access import content_of
from internlm_zoo.errors import IntegrityError
from internlm_zoo.registry.entry import FilePath, Sha256, Size
from internlm_zoo.registry.explain import sentence
from internlm_zoo.store.record import MOST

INDEX_NAME = "mirror.json"
_SCHEMA = 1


@dataclass(frozen=True)
class HeldFile:
    """stamp: the time of its last change when it was taken in; without one nothing tells whether it is the
    same."""

    path: FilePath
    size: Size
    sha256: Sha256
    stamp: str | None = None


@dataclass(frozen=True)
class Indexed:
    """One release as the index records it. files: by path."""

    revision: str | None
    files: Mapping[str, HeldFile]


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
        document = _DOCUMENT.validate_json(content_of(path, MOST))
    except ValidationError as error:
        what = f"the index of the mirror is not in the format of schema {_SCHEMA}"
        fix = "write it again with `internlm-zoo mirror apply`"
        raise IntegrityError(f"{what}: {sentence(error.errors()[0])}", path, fix) from error
    return Index(
        {
            release.path: Indexed(release.revision, {file.path: file for file in release.files})
            for release in document.releases
        },
        {(name.hub, name.repo): release.path for release in document.releases for name in release.names},
    )


@dataclass(frozen=True)
class _Name:
    hub: str
    repo: str


@dataclass(frozen=True)
class _Release:
    path: str
    files: tuple[HeldFile, ...]
    revision: str | None = None
    names: tuple[_Name, ...] = ()


@dataclass(frozen=True)
class _Document:
    schema: Literal[1]
    releases: tuple[_Release, ...]


_DOCUMENT = TypeAdapter(_Document)
