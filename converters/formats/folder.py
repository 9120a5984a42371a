"""Where the files of a checkpoint are: a directory on disk, or whatever else can list and open them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from converters.errors import IntegrityError
from converters.formats.access import is_directory, no_directory, reading
from converters.formats.bytesource import ByteSource, LocalFile
from converters.formats.identity import Identity, changed, identity_at
from converters.formats.links import opener_of
from converters.system.system_files import is_of_a_system

SMALL = 64 << 20
"""Bytes of a file beside weights, at most."""


class Folder(Protocol):
    """The files of a checkpoint: a directory on disk, or a release behind HTTP ranges."""

    @property
    def name(self) -> str:
        """What errors call it: a path, or hub:repo."""

    @property
    def in_order(self) -> bool:
        """Whether it wants to be read by one thread, in the order of its bytes."""

    def names(self, below: str = "") -> Sequence[str]:
        """The files in it, or in a folder below it, sorted; what lies deeper is left out."""

    def where(self, name: str) -> str:
        """What errors call a file in it; ends in a slash and the name."""

    def open(self, name: str) -> ByteSource:
        """The file, to be closed by who opened it. Raises NotFoundError."""

    def identity(self, name: str) -> str:
        """A text that differs whenever the file's bytes may differ."""

    def known_sha256(self, name: str) -> str | None:
        """The sha256 that is known of the file before any of it is read."""

    def known_digest(self, name: str) -> Mapping[str, str] | None:
        """What was verified of the file's bytes already, and how: {"sha256": ..., "verified": ...}.

        Raises IntegrityError if what was read of it is not what it should be."""

    def confirm(self) -> None:
        """Raises IntegrityError for a file that is not what it was when it was opened first."""

    def renew(self, names: Collection[str]) -> Mapping[str, IntegrityError]:
        """As `confirm`, but of these files those are returned that look the same and were touched, each with
        what to say if its bytes turn out to be others. They count from now on as they are now."""


def nothing_verified() -> Mapping[str, str]:
    """Of a folder of which nobody knows more than it shows."""
    return {}


@dataclass(frozen=True)
class LocalFolder:
    """A directory. verified: gives, at this moment, the sha256 of files whose bytes were checked before and
    have not changed since. seen: the files that were opened, as they were then."""

    path: Path
    verified: Callable[[], Mapping[str, str]] = nothing_verified
    seen: dict[str, Identity] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def in_order(self) -> bool:
        return False

    def names(self, below: str = "") -> Sequence[str]:
        folder = self.path / below
        if below and not is_directory(folder):
            return []
        with reading(folder):
            return sorted(
                path.name
                for path in folder.iterdir()
                if not is_of_a_system(path.name) and not os.path.isdir(path)  # noqa: PTH112 (a link to what cannot be seen is a file like others)
            )

    def where(self, name: str) -> str:
        return str(self.path / name)

    def open(self, name: str) -> LocalFile:
        """Raises NotFoundError, AccessError, and IntegrityError for a link that leads out of it and for a
        file that is not what it was the first time."""
        file = LocalFile(self.path / name, opener_of(self.path, name))
        before = self.seen.setdefault(name, file.identity)
        if not file.identity.looks_like(before):
            file.close()
            raise changed(file.name, before, file.identity)
        return file

    def identity(self, name: str) -> str:
        file = self.path / name
        with reading(file):
            now = Identity.of(file.stat())
        return repr((os.path.realpath(file), self.seen.setdefault(name, now)))

    def known_sha256(self, name: str) -> str | None:
        return self.verified().get(name)

    def confirm(self) -> None:
        self.renew(())

    def renew(self, names: Collection[str]) -> Mapping[str, IntegrityError]:
        touched = {}
        for name, before in [*self.seen.items()]:
            if (now := identity_at(self.path / name)) == before:
                continue
            error = changed(self.where(name), before, now)
            if now is None or name not in names or not now.looks_like(before):
                raise error
            self.seen[name], touched[name] = now, error
        return touched

    def known_digest(self, name: str) -> Mapping[str, str] | None:
        sha256 = self.known_sha256(name)
        return None if sha256 is None else {"sha256": sha256, "verified": "before, by the download"}

    def size(self, name: str) -> int:
        with reading(self.path / name):
            return (self.path / name).stat().st_size


def local_folder(path: str | os.PathLike[str]) -> LocalFolder:
    """Raises NotFoundError if there is no such directory, AccessError if it cannot be seen."""
    directory = Path(path)
    if not is_directory(directory):
        raise no_directory(directory)
    return LocalFolder(directory)


def read_whole(folder: Folder, name: str, most: int = SMALL) -> bytes:
    """A small file. Raises NotFoundError, and IntegrityError if it is no small file."""
    file = folder.open(name)
    try:
        if file.size > most:
            raise IntegrityError(f"it has {file.size:,} bytes, more than any such file", file.name)
        return file.read(0, file.size)
    finally:
        file.close()
