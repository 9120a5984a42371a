"""Which repositories exist below a root directory, and what each holds right now.

A repository is `root/<org>/<name>/`. A file is served only if a walk of that folder finds it: a requested
path is compared with names and never joined to the root, so `..`, absolute paths and encoded slashes lead
nowhere. Links that leave the root are not followed; dot files are served only if `mirror.json` lists them,
and what is a file of another name on some system (names.py) not at all: clients refuse such listings.

Hugging Face lists a large file by its sha256 and the git blob sha1 of its LFS pointer, a small one by its own
git blob sha1 (format facts: git hash-object, the git-lfs pointer specification v1).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from converters.system.system_files import is_of_a_system, walk_files
from internlm_zoo.errors import NotFoundError
from internlm_zoo.files import ALGORITHMS
from internlm_zoo.fs.contained import real
from internlm_zoo.names import fault_in, is_sha1
from internlm_zoo.serve.hashing import Hashing, HashJob, State, Unhashed, state_of
from internlm_zoo.store.mirror_index import HubName, IndexedFile, IndexedRelease, read_index

BRANCHES = ("main", "master")
_NAME = re.compile(r"[^\W.][\w.\-]*")
_LFS_THRESHOLD = 10 * 1024 * 1024  # larger ones the Hub takes by LFS alone
# fmt: off
_LFS_SUFFIXES = frozenset({
    ".7z", ".bin", ".bz2", ".ckpt", ".gguf", ".gz", ".h5", ".jpeg", ".jpg", ".model", ".msgpack", ".npy",
    ".npz", ".onnx", ".ot", ".parquet", ".pb", ".pickle", ".pkl",
    ".png", ".pt", ".pth", ".rar", ".safetensors",
    ".tar", ".tflite", ".tgz", ".wasm", ".xz", ".zip", ".zst",
})
# fmt: on


class RepoNotFound(NotFoundError):
    """No repository of that name below the root."""


class RevisionNotFound(NotFoundError):
    """The repository has no such branch or revision."""


class EntryNotFound(NotFoundError):
    """The repository has no such file or folder."""


@dataclass(frozen=True)
class ServedFile:
    """One served file. git_sha1: of the bytes, None for LFS files. modified: seconds since the epoch. state:
    in which it has these digests."""

    path: str
    size: int
    sha256: str
    git_sha1: str | None
    modified: float
    file: Path
    state: State

    @property
    def pointer(self) -> bytes | None:
        """What git holds for an LFS file; None for a file that git holds itself."""
        return lfs_pointer(self.sha256, self.size) if self.git_sha1 is None else None

    @property
    def oid(self) -> str:
        """The git blob id: of the bytes, or of the pointer that stands for them."""
        return self.git_sha1 or git_blob_sha1(lfs_pointer(self.sha256, self.size))


@dataclass(frozen=True)
class Repository:
    """name: as it was asked for. revision: 40 hex digits. entries: sorted by path."""

    name: str
    revision: str
    entries: tuple[ServedFile, ...]

    @cached_property
    def by_path(self) -> dict[str, ServedFile]:
        return {entry.path: entry for entry in self.entries}

    @property
    def modified(self) -> float:
        return max((entry.modified for entry in self.entries), default=0.0)

    def at(self, revision: str) -> Repository:
        """This repository, if it has that branch or revision. Raises RevisionNotFound."""
        if revision not in (*BRANCHES, self.revision):
            raise RevisionNotFound(f"{self.name} has no revision {revision}")
        return self

    def entry(self, path: str) -> ServedFile:
        """Raises EntryNotFound."""
        if path not in self.by_path:
            raise EntryNotFound(f"{self.name} has no file {path}")
        return self.by_path[path]

    def listing(self, folder: str = "", *, recursive: bool) -> list[str | ServedFile]:
        """Folders (as paths) and files below a folder, sorted by path. Raises EntryNotFound."""
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        below = [entry for entry in self.entries if entry.path.startswith(prefix)]
        if prefix and not below:
            raise EntryNotFound(f"{self.name} has no folder {folder}")
        items: dict[str, str | ServedFile] = {path: path for path in _folders(below, prefix)}
        items.update((entry.path, entry) for entry in below)
        return [items[path] for path in sorted(items) if recursive or "/" not in path.removeprefix(prefix)]


class Catalogue:
    """The repositories below one root. Reads the disk at every question, hashes each file state once."""

    def __init__(self, root: Path) -> None:
        self.root = real(root)
        self.hashing = Hashing()

    def names(self) -> list[str]:
        """Every `org/name` folder there is, sorted."""
        folders = (f"{org.name}/{name.name}" for org in _subfolders(self.root) for name in _subfolders(org))
        return sorted(name for name in folders if self._folder(name) is not None)

    def find(self, hub: str, name: str) -> Repository:
        """What a hub's repository holds now. name: a folder `org/name`, or what `mirror.json` calls one.

        Raises RepoNotFound, and Unhashed as long as there are files that nobody has hashed yet.
        """
        index = read_index(self.root)
        place = index.names.get(HubName(hub, name), name)
        folder = self._folder(place)
        if folder is None:
            raise RepoNotFound(f"there is no repository {name} here")
        return self._read(name, folder, index.find(place))

    def _folder(self, place: str) -> Path | None:
        parts = place.split("/")
        if len(parts) != 2 or not all(_NAME.fullmatch(part) for part in parts):
            return None
        folder = real(self.root / parts[0] / parts[1])
        return folder if folder.is_dir() and folder.is_relative_to(self.root) else None

    def _read(self, name: str, folder: Path, indexed: IndexedRelease | None) -> Repository:
        waiting: list[HashJob] = []
        files = indexed.by_path if indexed else {}
        found = sorted(self._entries(folder, files, waiting), key=lambda entry: entry.path)
        if waiting:
            raise Unhashed(waiting)
        listed = {path: (file.size, file.sha256) for path, file in files.items()}
        same = {entry.path: (entry.size, entry.sha256) for entry in found} == listed
        known = indexed.revision if indexed and same and is_sha1(indexed.revision or "") else None
        return Repository(name, known or _content_revision(found), tuple(found))

    def _entries(
        self, folder: Path, indexed: Mapping[str, IndexedFile], waiting: list[HashJob]
    ) -> Iterator[ServedFile]:
        """waiting: gets what has to be hashed first."""
        for file in walk_files(folder):
            path = file.relative_to(folder).as_posix()
            if not (path in indexed or _presentable(path)):
                continue
            leads_out = file.is_symlink() and not real(file).is_relative_to(self.root)
            if leads_out or not file.is_file():
                continue
            stat = file.stat()
            state = state_of(stat)
            sha256 = self._indexed(file, stat, indexed.get(path))
            small = not is_lfs(path, stat.st_size)
            yield ServedFile(
                path=path,
                size=stat.st_size,
                sha256=sha256 or self._hashed("sha256", file, state, waiting),
                git_sha1=self._hashed("git_sha1", file, state, waiting) if small else None,
                modified=stat.st_mtime,
                file=file,
                state=state,
            )

    def _indexed(self, file: Path, stat: os.stat_result, indexed: IndexedFile | None) -> str | None:
        """What the index says of a file that is as it was then, by its size and time of change."""
        if indexed is None or (indexed.size, indexed.stamp) != (stat.st_size, str(stat.st_mtime_ns)):
            return None
        return indexed.sha256 if self.hashing.believes(file, indexed.sha256, state_of(stat)) else None

    def _hashed(self, kind: str, file: Path, state: State, waiting: list[HashJob]) -> str:
        digest = self.hashing.digest(kind, file, state)
        if isinstance(digest, HashJob):
            waiting.append(digest)
            return ""
        return digest


def _subfolders(folder: Path) -> Iterator[Path]:
    return (child for child in folder.iterdir() if not is_of_a_system(child.name) and child.is_dir())


def _presentable(path: str) -> bool:
    hidden = any(part.startswith(".") for part in path.split("/"))
    return not hidden and fault_in(path) is None


def _folders(entries: Iterable[ServedFile], prefix: str) -> set[str]:
    folders: set[str] = set()
    for entry in entries:
        parts = entry.path.removeprefix(prefix).split("/")
        folders.update(prefix + "/".join(parts[:depth]) for depth in range(1, len(parts)))
    return folders


def _content_revision(entries: Iterable[ServedFile]) -> str:
    digest = hashlib.sha1()  # clients want the 40 digits of a commit
    for entry in entries:
        digest.update(f"{entry.path}\0{entry.size}\0{entry.sha256}\n".encode())
    return digest.hexdigest()


def is_lfs(path: str, size: int) -> bool:
    """Whether a hub keeps this file in LFS: large, or binary by its name."""
    return size > _LFS_THRESHOLD or PurePosixPath(path).suffix.lower() in _LFS_SUFFIXES


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The small text that git holds in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_blob_sha1(content: bytes) -> str:
    hash = ALGORITHMS["git_sha1"].begin(len(content))
    hash.update(content)
    return hash.hexdigest()
