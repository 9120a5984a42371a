"""Where a download goes: into the store, or as plain files into a folder of the user's choice.

Both answer the same questions: is this file here already, where do its bytes wait until they are checked,
and what happens when they are, or when another tool's cache has them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from converters.saved import METADATA
from converters.system.filesystem import move, nearest
from converters.system.system_files import is_empty
from internlm_zoo.caches.adopt import HashedCopy, second_name, take_in
from internlm_zoo.caches.find import LocalCopy
from internlm_zoo.errors import UsageError
from internlm_zoo.files import Digests, File
from internlm_zoo.hashing import hash_file
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.store.aliases import Alias, forget, name_of, remember, remembered
from internlm_zoo.store.hash_cache import HashCache
from internlm_zoo.store.layout import CAME, PARTIAL, Store, check_metadata, is_blob, place_of
from internlm_zoo.store.publish import keep_blob, publish_release
from internlm_zoo.store.record import Record, extend_record, intact_record, read_record, replace_record
from internlm_zoo.transfer.values import Fetched

# What the store is called among the endpoints of a file.
STORE = "store"


@dataclass(frozen=True)
class FileState:
    """How a file stands. sha256 and size: of the file, if it is here and right. verified_by: see
    `StoreTarget.keep`. damaged: what is there in its place. relinked: its release had a damaged copy of it,
    and gets another."""

    sha256: str | None = None
    size: int = 0
    verified_by: str | None = None
    damaged: Path | None = None
    relinked: bool = False


@dataclass(frozen=True)
class StoreTarget:
    """folder: what the user gets. force: what is here is hashed again before it is believed; so is what
    others may write to, once it changed. stale: paths of the release that are copies, and no longer those of
    their blobs."""

    store: Store
    folder: Path
    release: LockedRelease
    hash_cache: HashCache
    force: bool = False
    stale: set[str] = field(default_factory=set)

    @property
    def partial(self) -> Path:
        """Where unchecked bytes wait."""
        return self.store.partial

    def begin(self, model: str) -> None:
        """Before anything is written. Raises what keeps the folder from being used."""
        check_metadata(self.folder)
        intact_record(self.folder)

    def look(self, file: File) -> FileState:
        """Whether the file is here and right."""
        known = _known(self.folder, self.store.aliases, self.release, file)
        if known is None:
            return FileState()
        blob, copy = self.store.blob(known.sha256), self.folder / file.path
        if not is_blob(blob):
            return FileState(damaged=copy if copy.is_file() else None)
        size = blob.stat().st_size
        if file.size not in (None, size) or not self._is_right(blob, known.sha256):
            return FileState(damaged=blob)
        if copy.is_file() and not copy.samefile(blob) and not self._is_right(copy, known.sha256):
            self.stale.add(file.path)
        return FileState(known.sha256, size, known.verified_by, relinked=file.path in self.stale)

    def _is_right(self, path: Path, sha256: str) -> bool:
        try:
            believed = not self.force and not self.hash_cache.watches(path)
            return believed or self.hash_cache.digests(path).sha256 == sha256
        except OSError:  # it cannot be read
            return False

    def near(self, file: File) -> Path | None:
        """A file of the store to copy the bytes from: the release's own, where it has one that is right."""
        copy = self.folder / file.path
        if file.sha256 is None or copy.is_symlink() or not copy.is_file():
            return None
        return copy if self._is_right(copy, file.sha256) else None

    def keep(self, fetched: Fetched, file: File, verified_by: str | None = None) -> None:
        """Give a checked file its final name. verified_by: the hub whose digest it was compared with, if its
        own has none."""
        remember(self.store.aliases, name_of(self.release, file), Alias(fetched.sha256, verified_by))
        keep_blob(self.store, fetched.path, fetched.sha256)
        self._links_to_it(file)

    def adopt(self, found: HashedCopy, file: File) -> bool:
        """Take a file from where it was found, which stays as it is; False if it changed meanwhile."""
        remember(self.store.aliases, name_of(self.release, file), Alias(found.known.sha256))
        taken = take_in(self.store, self.hash_cache, found)
        self._links_to_it(file)
        return taken

    def _links_to_it(self, file: File) -> None:
        """What the release has instead of a link to the blob was of no use before, and is none now."""
        if not (self.folder / file.path).is_symlink():
            self.stale.add(file.path)

    def links(self, copies: Iterable[LocalCopy]) -> bool:
        """Whether a file that is adopted from there takes no room."""
        here = nearest(self.partial).stat().st_dev
        return any(copy.device == here for copy in copies)

    def finish(self, record: Record) -> None:
        """All files are here: show them."""
        publish_release(self.store, self.folder, record, self.stale)


@dataclass(frozen=True)
class FolderTarget:
    """The same of plain files. force: those that differ are replaced."""

    store: Store
    folder: Path
    release: LockedRelease
    force: bool = False

    @property
    def partial(self) -> Path:
        return self.folder / METADATA / PARTIAL

    @property
    def aliases(self) -> Path:
        return self.folder / METADATA / CAME

    def begin(self, model: str) -> None:
        """Mark the folder as ours. Raises UsageError if it holds something else."""
        check_metadata(self.folder)
        record = intact_record(self.folder) if self.force else read_record(self.folder)
        release = self.release
        if record is None or (record.model, record.release.format) != (model, release.format):
            if not self.force and self.folder.is_dir() and not is_empty(self.folder, but=(METADATA,)):
                raise UsageError(
                    f"{self.folder} is not empty and holds no download of {model}",
                    fix="choose another `local_dir`, or add `force=True`",
                )
            replace_record(self.folder, Record(model, replace(release, files=()), len(release.files)))

    def look(self, file: File) -> FileState:
        path = place_of(self.folder, file.path)
        if not path.is_file():
            return FileState()
        known = _known(self.folder, self.aliases, self.release, file)
        wanted = File(file.path, file.size, Digests(known.sha256 if known else None)).completed_by(file)
        found = hash_file(path, wanted.algorithms)
        comparable = known or file.identified
        if comparable and wanted.digests.conflict(found) is None:
            return FileState(found.sha256, path.stat().st_size, known.verified_by if known else None)
        if not self.force:
            why = "differs from the release" if comparable else "cannot be compared with the release"
            raise UsageError(f"{file.path} is there and {why}", path, "move it away, or add `force=True`")
        return FileState(damaged=path)

    def near(self, file: File) -> Path | None:
        sha256 = file.sha256
        if sha256 is None and file.identified:
            known = remembered(self.store.aliases, name_of(self.release, file))
            sha256 = known.sha256 if known else None
        blob = self.store.blob(sha256) if sha256 else None
        is_there = blob is not None and os.path.isfile(blob)  # noqa: PTH113 - no, where the store is closed
        return blob if is_there else None

    def keep(self, fetched: Fetched, file: File, verified_by: str | None = None) -> None:
        target = place_of(self.folder, file.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not file.identified:  # first, so that there is no moment at which nobody knows what lies there
            remember(self.aliases, name_of(self.release, file), Alias(fetched.sha256, verified_by))
        move(fetched.path, target)

    def adopt(self, found: HashedCopy, file: File) -> bool:
        target = place_of(self.folder, file.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with second_name(found, self.partial, hard=False) as draft:
            if draft is not None:
                move(draft.path, target)
        return draft is not None

    def links(self, copies: Iterable[LocalCopy]) -> bool:
        return False

    def finish(self, record: Record) -> None:
        extend_record(self.folder, record)
        forget(self.aliases, {file.sha256 for file in record.release.files if file.sha256})
        with suppress(OSError):  # another download may be using it
            self.partial.rmdir()


Target = StoreTarget | FolderTarget


def _known(folder: Path, aliases: Path, release: LockedRelease, file: File) -> Alias | None:
    """The sha256 that is listed of a file, or that came for it before."""
    if file.sha256 is not None:
        return Alias(file.sha256)
    return remembered(aliases, name_of(release, file)) or _recorded(folder, release, file)


def _recorded(folder: Path, release: LockedRelease, file: File) -> Alias | None:
    """What an earlier download of this very release found."""
    record = intact_record(folder)
    if record is None or (record.release.id, record.release.revision) != (release.id, release.revision):
        return None
    known = record.release.file(file.path)
    if known is None or known.sha256 is None:
        return None
    listed = replace(known, digests=known.digests._replace(sha256=None))
    return Alias(known.sha256) if file in (listed, File(file.path)) else None
