"""Puts checked bytes under their final names: blobs into the store, releases as links to them.

Every step is a rename, so whoever looks sees all of a thing or nothing, and two processes that do the same
end with the same.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path

from converters.system.filesystem import best_effort, copy, move, set_mode
from internlm_zoo.errors import NotFoundError
from internlm_zoo.files import File
from internlm_zoo.fs.contained import real
from internlm_zoo.fs.ownership import draft, remove_stale, sweep
from internlm_zoo.store.layout import Store, place_of
from internlm_zoo.store.record import Record, extend_record, is_recorded, write_record

# What a kill may leave that nobody goes on with.
_DRAFTS = ("release", "removed", "blocks")
# Several releases share a blob: an edit of one would be one of all.
_READ_ONLY = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH


def keep_blob(store: Store, part: Path, sha256: str, *, ours: bool = True) -> None:
    """Move a checked file into the store. The same bytes may be there already. ours: whether it is no hard
    link to a file of somebody else's, whose mode is not for us to change."""
    blob = store.blob(sha256)
    blob.parent.mkdir(parents=True, exist_ok=True)
    if ours:
        set_mode(part, _READ_ONLY)
    if os.name == "nt" and blob.exists():  # a read-only file cannot be replaced there
        set_mode(blob, _READ_ONLY | stat.S_IWUSR)
    move(part, blob)


def holds(store: Store, folder: Path, file: File) -> bool:
    """Whether the release folder has this file, by its size and by the blob it is a link to; nothing is
    read."""
    if file.sha256 is None:
        return False
    path = folder / file.path
    try:
        status = path.stat()
        if path.is_symlink() and not os.path.samestat(status, store.blob(file.sha256).lstat()):
            return False
    except OSError:
        return False
    inside = "/" not in file.path or real(path.parent).is_relative_to(real(folder))
    return inside and stat.S_ISREG(status.st_mode) and file.size in (None, status.st_size)


def publish_release(store: Store, folder: Path, record: Record, stale: Collection[str] = ()) -> None:
    """Make the folder show these files, whose blobs are in the store; all at once if it is new. Nothing is
    written where it shows them already: a store may be read-only. stale: paths of files in it that are not
    what they seem, and are linked anew."""
    _sweep(store)
    files = record.release.files
    wanting = [file for file in files if file.path in stale or not holds(store, folder, file)]
    if not wanting and is_recorded(folder, record):
        return
    with draft(store.partial, "release") as made:
        made.mkdir()
        links = _link_all(store, made, folder, wanting)
        if not _becomes(made, folder, record):
            for link, path in links:
                target = place_of(folder, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                move(link, target)
            extend_record(folder, record)


def _sweep(store: Store) -> None:
    """What a kill left goes, where it is ours to remove."""
    with best_effort():
        for key in _DRAFTS:
            sweep(store.partial, key)
        remove_stale(store.partial)


def _becomes(draft: Path, folder: Path, record: Record) -> bool:
    """Whether the draft is the folder now; False if there is one already, or they are on two devices."""
    if folder.exists():
        return False
    write_record(draft, record)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        draft.rename(folder)
    except OSError as error:
        if error.errno != errno.EXDEV and not folder.is_dir():  # another process was faster
            raise
        return False
    return True


def _link_all(store: Store, draft: Path, folder: Path, files: Iterable[File]) -> list[tuple[Path, str]]:
    """Links in `draft` that are right in `folder`; each with its path there."""
    links = []
    for file in files:
        link = place_of(draft, file.path)
        link.parent.mkdir(parents=True, exist_ok=True)
        assert file.sha256 is not None
        blob = store.blob(file.sha256)
        if not blob.exists():
            raise NotFoundError(f"{file.path} was removed from the store meanwhile", blob, "run it again")
        link_blob(blob, link, (folder / file.path).parent)
        links.append((link, file.path))
    return links


def link_blob(blob: Path, link: Path, parent: Path) -> None:
    """A relative link that is right once `link` lies in `parent`; a hard link or a copy where links do not
    work."""
    try:
        link.symlink_to(os.path.relpath(blob, parent))  # the store may be moved
    except (OSError, NotImplementedError):
        try:
            link.hardlink_to(blob)
        except (OSError, NotImplementedError):
            copy(blob, link)  # with its time of change, by which the record knows it
