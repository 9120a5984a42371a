"""Where a download goes: into the store, or as plain files into a folder of the user's choice.

Both answer the same questions: is this file here already, where do its bytes wait until they are checked,
and what happens when they are, or when another tool's cache has them.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from internlm_zoo.errors import UsageError
from internlm_zoo.registry.lock import LockedFile, LockedRelease
from internlm_zoo.sources.base import Location
from internlm_zoo.store.adopt import Found, second_name, take_in
from internlm_zoo.store.caches import Spot
from internlm_zoo.store.gitnames import remember, remembered
from internlm_zoo.store.layout import BOOKS, Store, place_of
from internlm_zoo.store.ledger import Ledger
from internlm_zoo.store.publish import keep_blob, publish_release
from internlm_zoo.store.record import Record, extend_record, read_record, write_record
from internlm_zoo.transfer.digest import digest_file
from internlm_zoo.transfer.values import Fetched, Origin, Wanted

# What the store is called among the origins of a file.
STORE = "store"


class Target(Protocol):
    @property
    def folder(self) -> Path:
        """What the user gets."""
        ...

    @property
    def partial(self) -> Path:
        """Where unchecked bytes wait."""
        ...

    def present(self, file: LockedFile) -> str | None:
        """The sha256 of the file if it is here and right."""
        ...

    def near(self, file: LockedFile) -> Iterable[Origin]:
        """Places on this machine that should have the bytes."""
        ...

    def keep(self, fetched: Fetched, file: LockedFile) -> None:
        """Give a checked file its final name."""
        ...

    def adopt(self, found: Found, file: LockedFile) -> bool:
        """Take a file from where it was found, which stays as it is; False if it changed meanwhile."""
        ...

    def links(self, spots: Iterable[Spot]) -> bool:
        """Whether a file that is adopted from there takes no room."""
        ...

    def finish(self, record: Record) -> None:
        """All files are here: show them."""
        ...


@dataclass(frozen=True)
class StoreTarget:
    """force: what is here is hashed again before it is believed; so is a blob that others may write to, once
    it changed."""

    store: Store
    folder: Path
    ledger: Ledger
    force: bool = False

    @property
    def partial(self) -> Path:
        return self.store.partial

    def present(self, file: LockedFile) -> str | None:
        sha256 = file.sha256 or _recorded(self.folder, file) or remembered(self.store, file)
        if sha256 is None:
            return None
        blob = self.store.blob(sha256)
        with suppress(FileNotFoundError):
            if file.size in (None, blob.stat().st_size) and self._is_right(blob):
                return sha256
        return None

    def _is_right(self, blob: Path) -> bool:
        believed = not self.force and not self.ledger.watches(blob)
        return believed or self.ledger.digests(blob, fresh=self.force).sha256 == blob.name

    def near(self, file: LockedFile) -> Iterable[Origin]:
        return ()

    def keep(self, fetched: Fetched, file: LockedFile) -> None:
        keep_blob(self.store, fetched.path, fetched.sha256)
        remember(self.store, file, fetched.sha256)

    def adopt(self, found: Found, file: LockedFile) -> bool:
        taken = take_in(self.store, self.ledger, found)
        if taken:
            remember(self.store, file, found.known.sha256)
        return taken

    def links(self, spots: Iterable[Spot]) -> bool:
        here = self.partial.stat().st_dev
        return any(spot.device == here for spot in spots)

    def finish(self, record: Record) -> None:
        publish_release(self.store, self.folder, record)


@dataclass(frozen=True)
class FolderTarget:
    """force: files that differ are replaced."""

    store: Store
    folder: Path
    force: bool = False

    @property
    def partial(self) -> Path:
        return self.folder / BOOKS / "partial"

    def begin(self, model: str, release: LockedRelease) -> None:
        """Mark the folder as ours. Raises UsageError if it holds something else."""
        record = read_record(self.folder)
        if record is None or (record.model, record.release.format) != (model, release.format):
            if not self.force and self.folder.is_dir() and any(self.folder.iterdir()):
                raise UsageError(
                    f"{self.folder} is not empty and holds no download of {model}",
                    fix="choose another --local-dir, or add --force",
                )
            write_record(self.folder, Record(model, replace(release, files=()), len(release.files)))

    def present(self, file: LockedFile) -> str | None:
        path = place_of(self.folder, file.path)
        if not path.is_file():
            return None
        sha256 = file.sha256 or _recorded(self.folder, file)
        digest = digest_file(path, Wanted(file.path, file.size, sha256, file.git_sha1))
        known = sha256 or (file.git_sha1 and file.size is not None)
        if known and digest.mismatch() is None:
            return digest.sha256
        if not self.force:
            why = "differs from the release" if known else "cannot be compared with the release"
            raise UsageError(f"{file.path} is there and {why}", path, "move it away, or add --force")
        return None

    def near(self, file: LockedFile) -> Iterable[Origin]:
        if file.sha256 is not None and (blob := self.store.blob(file.sha256)).is_file():
            yield Origin(STORE, lambda: Location(blob.as_uri()))

    def keep(self, fetched: Fetched, file: LockedFile) -> None:
        target = place_of(self.folder, file.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched.path.replace(target)

    def adopt(self, found: Found, file: LockedFile) -> bool:
        target = place_of(self.folder, file.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with second_name(found, self.partial, hard=False) as draft:
            if draft is not None:
                draft.path.replace(target)
        return draft is not None

    def links(self, spots: Iterable[Spot]) -> bool:
        return False

    def finish(self, record: Record) -> None:
        extend_record(self.folder, record)
        with suppress(OSError):  # another download may be using it
            self.partial.rmdir()


def _recorded(folder: Path, file: LockedFile) -> str | None:
    """The sha256 that an earlier download found for a file whose hub lists none."""
    record = read_record(folder)
    known = record.release.file(file.path) if record else None
    if known is None or (file.size, file.git_sha1) not in ((known.size, known.git_sha1), (None, None)):
        return None
    return known.sha256
