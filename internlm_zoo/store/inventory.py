"""What the store holds: read from the releases' own records, without network and without hashing.

A release whose record tells nothing is among them by its place, and by the blobs that its files are: it stops
nobody from looking at the others, and nobody takes its blobs away.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from converters.formats.access import is_directory, refusal
from converters.saved import METADATA
from converters.system.system_files import is_of_a_system, walk
from internlm_zoo.errors import IntegrityError, ZooError
from internlm_zoo.store.layout import Store, is_blob
from internlm_zoo.store.record import NAME, UNREADABLE, Record, read_record

Inode = tuple[int, int]
"""Device and number."""


@dataclass(frozen=True)
class StoredRelease:
    """A release, or part of one, in the store. path: its folder. size: bytes of its files, shared or not."""

    path: Path
    record: Record

    @property
    def size(self) -> int:
        return sum(file.size or 0 for file in self.record.release.files)


@dataclass(frozen=True)
class UnreadableRelease:
    """A release of which its record tells nothing. path: its folder, or one above it that cannot be looked
    into. error: why. inodes: of its files; None where they cannot be seen."""

    path: Path
    error: ZooError
    inodes: frozenset[Inode] | None


AnyRelease = StoredRelease | UnreadableRelease


@dataclass(frozen=True)
class Inventory:
    """In the order of their paths."""

    holdings: tuple[StoredRelease, ...]
    unread: tuple[UnreadableRelease, ...]

    @property
    def all(self) -> tuple[AnyRelease, ...]:
        return self.holdings + self.unread


@dataclass(frozen=True)
class DiskShare:
    """Bytes on the disk that a release has: its own, which go with it, and those that others have as well:
    releases, or another tool's cache by a hard link."""

    own: int
    shared: int


@dataclass(frozen=True)
class DiskUsage:
    """Bytes on the disk: all blobs, each once, and what waits in unfinished downloads."""

    blobs: int
    partial: int


def inventory(store: Store) -> Inventory:
    """Every release in the store."""
    found = [_look(path) for path in _folders(store.releases, levels=3)]
    return Inventory(
        tuple(one for one in found if isinstance(one, StoredRelease)),
        tuple(one for one in found if isinstance(one, UnreadableRelease)),
    )


def shares(releases: Sequence[StoredRelease]) -> list[DiskShare]:
    """Of every release among all that the store holds, in their order."""
    files = [_files(holding) for holding in releases]
    owners = Counter(inode for entry in files for inode in entry)
    return [
        DiskShare(
            own=sum(size for inode, (size, links) in entry.items() if owners[inode] == links == 1),
            shared=sum(size for inode, (size, links) in entry.items() if owners[inode] > 1 or links > 1),
        )
        for entry in files
    ]


def usage(store: Store) -> DiskUsage:
    """Raises AccessError for a store that this account cannot see."""
    return DiskUsage(_size(store.blobs), _size(store.partial))


def _folders(place: Path, levels: int) -> Iterator[Path | UnreadableRelease]:
    """<hub>/<repository>/<revision>, so many levels down; what cannot be looked into, as that."""
    try:
        entries = [entry for entry in os.scandir(place) if not is_of_a_system(entry.name)]
        below = sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return
    except OSError as error:
        yield UnreadableRelease(place, refusal(place, error), None)
        return
    for folder in below:
        if levels > 1:
            yield from _folders(folder, levels - 1)
        else:
            yield folder


def _look(place: Path | UnreadableRelease) -> AnyRelease:
    if isinstance(place, UnreadableRelease):
        return place
    try:
        record = read_record(place)
    except UNREADABLE as error:
        return UnreadableRelease(place, error, _inodes(place))
    if record is None:
        fix = f"download it again, which writes one; or remove it: internlm-zoo cache rm {quote(str(place))}"
        lost = IntegrityError("the release has no record", place / METADATA / NAME, fix)
        return UnreadableRelease(place, lost, _inodes(place))
    return StoredRelease(place, record)


def _inodes(folder: Path) -> frozenset[Inode] | None:
    """Of all its files, behind links; of our own books none."""
    hidden: list[OSError] = []
    found = set()
    for parent, folders, names in walk(folder, hidden.append):
        folders[:] = [name for name in folders if name != METADATA]
        for name in names:
            with suppress(FileNotFoundError):
                found.add(inode_of(Path(parent, name)))
    return None if hidden else frozenset(found)


def blobs_of(store: Store) -> list[Path]:
    """All of them, of releases or not: what has the name of one, at its place. Links are none, and lead to
    none."""
    folders = [folder for folder in sorted(store.blobs.glob("??")) if not folder.is_symlink()]
    found = (blob for folder in folders for blob in sorted(folder.glob("*")))
    return [blob for blob in found if blob.name[:2] == blob.parent.name and is_blob(blob)]


def inode_of(path: Path) -> Inode:
    """Raises OSError."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _files(holding: StoredRelease) -> dict[Inode, tuple[int, int]]:
    """Of its files: size, and the number of names outside of the release."""
    found = {}
    for file in holding.record.release.files:
        path = holding.path / file.path
        with suppress(OSError):  # it is gone, or not to be seen
            status = path.stat()
            links = status.st_nlink if path.is_symlink() else max(1, status.st_nlink - 1)
            found[status.st_dev, status.st_ino] = status.st_size, links
    return found


def _size(folder: Path) -> int:
    return sum(sizes_below(folder)) if is_directory(folder) else 0


def sizes_below(folder: Path) -> Iterator[int]:
    """Of the files in a folder, links and whatever else is there as what they are themselves."""
    for parent, folders, names in walk(folder):
        links = (name for name in folders if Path(parent, name).is_symlink())
        for name in (*names, *links):
            with suppress(FileNotFoundError):
                yield Path(parent, name).lstat().st_size
