"""What the store holds: read from the releases' own records, without network and without hashing."""

from __future__ import annotations

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


def usage(store: Store) -> Usage:
    return Usage(_size(store.blobs), _size(store.partial))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
