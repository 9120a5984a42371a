"""`mirror.json`: what a mirror holds, where it came from, and under which names each hub knows it.

`mirror apply` writes it, `serve` reads it for names, revisions and digests. It is replaced in one step, after
the files it speaks of are in place; before a file is touched, what it says of that file is taken back.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from converters.formats.access import content_of
from converters.saved import MIRROR
from internlm_zoo.errors import IntegrityError
from internlm_zoo.files import Digests, File
from internlm_zoo.hashing import hash_file
from internlm_zoo.registry.entry import FilePath, GitSha1, Sha256, Size
from internlm_zoo.registry.release import Format
from internlm_zoo.versions import MOST, read_document

_SMALL = 10 * 1024 * 1024  # up to this size a hub may list a file by its git digest alone


@dataclass(frozen=True)
class IndexedFile:
    """size in bytes; digests in hex, git_sha1 for small files alone. stamp: whatever changes at its
    destination when the file is written, so that one nobody has touched need not be hashed."""

    path: FilePath
    size: Size
    sha256: Sha256
    git_sha1: GitSha1 | None
    stamp: str

    @property
    def content(self) -> File:
        return File(self.path, self.size, Digests(self.sha256, git_sha1=self.git_sha1))


@dataclass(frozen=True)
class HubName:
    hub: str
    repo: str


@dataclass(frozen=True)
class IndexedSource:
    """The revision of the repository that the files are."""

    hub: str
    repo: str
    revision: str


@dataclass(frozen=True)
class IndexedRelease:
    """One release in the mirror. path: its folder, `org/name`. revision: what it is served as, 40 hex digits;
    None if its origin names no commit, or while not all of it is here. trust: see registry.lock. found: files
    that lay in the folder before the mirror; they are not the mirror's to replace or remove."""

    path: str
    model: str
    format: Format
    revision: str | None
    source: IndexedSource
    trust: Literal["hub", "first-use"]
    names: tuple[HubName, ...]
    files: tuple[IndexedFile, ...]
    found: tuple[str, ...] = ()

    @functools.cached_property
    def by_path(self) -> Mapping[str, IndexedFile]:
        return {file.path: file for file in self.files}


@dataclass(frozen=True)
class Index:
    """releases: by path, sorted."""

    releases: tuple[IndexedRelease, ...] = ()

    @functools.cached_property
    def names(self) -> Mapping[HubName, str]:
        """Paths of the releases, by what hubs call them."""
        return {name: release.path for release in self.releases for name in release.names}

    def find(self, path: str) -> IndexedRelease | None:
        return self._by_path.get(path)

    @functools.cached_property
    def _by_path(self) -> Mapping[str, IndexedRelease]:
        return {release.path: release for release in self.releases}

    def put(self, release: IndexedRelease) -> Index:
        others = [other for other in self.releases if other.path != release.path]
        return replace(self, releases=tuple(sorted([*others, release], key=lambda release: release.path)))

    def drop(self, path: str) -> Index:
        return replace(self, releases=tuple(release for release in self.releases if release.path != path))

    def forget(self, path: str, files: Iterable[str]) -> Index:
        """Without what is said of these files of one release, and so without its revision."""
        release, gone = self.find(path), frozenset(files)
        if release is None:
            return self
        kept = tuple(file for file in release.files if file.path not in gone)
        return self.put(replace(release, files=kept, revision=None))


def read_index(root: Path) -> Index:
    """The index of a mirror directory, empty where there is none. Raises IntegrityError for what is none,
    UnsupportedError for one of a later version."""
    path = root / MIRROR.file
    try:
        stat = path.stat()
    except FileNotFoundError:
        return Index()
    return _read(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read(path: Path, *state: int) -> Index:
    """state: what changes whenever the file does, so that it is parsed once and never stale."""
    fix = "remove it: `internlm-zoo mirror apply` checks the files and writes it anew"
    damaged = IntegrityError("the index of the mirror cannot be read", path, fix)
    return read_document(content_of(path, MOST), MIRROR, _INDEX, damaged, "mirror to another place")


def git_digest(file: Path, size: int) -> str | None:
    """Of a small file: another hub may know it by nothing else."""
    return hash_file(file, ("git_sha1",)).git_sha1 if size <= _SMALL else None


def dump(index: Index) -> str:
    return json.dumps(MIRROR.marked(asdict(index)), ensure_ascii=False, indent=1) + "\n"


_INDEX = TypeAdapter(Index)
