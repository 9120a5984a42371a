"""What the store holds: read from the releases' own records, without network and without hashing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from internlm_zoo.store.layout import BOOKS, Store
from internlm_zoo.store.record import Record, read_record


@dataclass(frozen=True)
class Holding:
    """A release, or part of one, in the store. path: its folder. size: bytes of its files, shared or not."""

    path: Path
    record: Record

    @property
    def size(self) -> int:
        return sum(file.size or 0 for file in self.record.release.files)


@dataclass(frozen=True)
class Share:
    """Bytes on the disk that a release has: its own, which go with it, and those that others have as well:
    releases, or another tool's cache by a hard link."""

    own: int
    shared: int


@dataclass(frozen=True)
class Usage:
    """Bytes on the disk: all blobs, each once, and what waits in unfinished downloads."""

    blobs: int
    partial: int


def holdings(store: Store) -> list[Holding]:
    """Every release in the store, in the order of their paths. Raises IntegrityError for a damaged record."""
    found = []
    for books in sorted(store.releases.glob(f"*/*/*/{BOOKS}")):
        record = read_record(books.parent)
        if record is not None:
            found.append(Holding(books.parent, record))
    return found


def shares(held: Sequence[Holding]) -> list[Share]:
    """Of every release among all that the store holds, in their order."""
    files = [_files(holding) for holding in held]
    owners = Counter(inode for entry in files for inode in entry)
    return [
        Share(
            own=sum(size for inode, (size, links) in entry.items() if owners[inode] == links == 1),
            shared=sum(size for inode, (size, links) in entry.items() if owners[inode] > 1 or links > 1),
        )
        for entry in files
    ]


def usage(store: Store) -> Usage:
    return Usage(_size(store.blobs), _size(store.partial))


def _files(holding: Holding) -> dict[tuple[int, int], tuple[int, int]]:
    """Device and inode of its files: size, and the number of names outside of the release."""
    found = {}
    for file in holding.record.release.files:
        path = holding.path / file.path
        with suppress(FileNotFoundError):
            status = path.stat()
            links = status.st_nlink if path.is_symlink() else max(1, status.st_nlink - 1)
            found[status.st_dev, status.st_ino] = status.st_size, links
    return found


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
