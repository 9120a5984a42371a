"""Takes releases, and bytes that no release needs, out of the store.

A release disappears in one rename; its blobs follow unless another release has them. A download that is
under way is left alone: what it has brought already may belong to no release yet.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from converters.saved import METADATA
from internlm_zoo.errors import NotFoundError
from internlm_zoo.fs import contained
from internlm_zoo.fs.disk import disk
from internlm_zoo.fs.ownership import draft, is_ours
from internlm_zoo.settings import Settings
from internlm_zoo.store.aliases import notes_in
from internlm_zoo.store.in_use import lock_of
from internlm_zoo.store.inventory import (
    AnyRelease,
    Inode,
    Inventory,
    StoredRelease,
    UnreadableRelease,
    blobs_of,
    inode_of,
    inventory,
    sizes_below,
)
from internlm_zoo.store.layout import Store
from internlm_zoo.store.locate import stored_releases

_LEVELS = 3  # <hub>/<repository>/<revision>: nothing above a release is taken for one


@dataclass(frozen=True)
class Removal:
    """What goes, or went. releases: folders. files: blobs and unfinished downloads. size: bytes of these.
    unread: releases of which the record tells nothing; what their files are stays."""

    releases: tuple[Path, ...]
    files: tuple[Path, ...]
    size: int
    unread: tuple[UnreadableRelease, ...] = ()


def named_in(store: Store, name: str, settings: Settings, revision: str | None = None) -> list[AnyRelease]:
    """What `cache rm` is to take: a model's releases, or the one whose folder is named, read or not. Raises
    NotFoundError."""
    there = inventory(store)
    folder = Path(name).absolute()
    if contained.real(folder).is_relative_to(contained.real(store.releases)):
        below = contained.real(folder).relative_to(contained.real(store.releases))
        place = store.releases / below if len(below.parts) == _LEVELS else None
        found = [one for one in there.all if one.path == place]
    else:
        stored = stored_releases(name, settings)
        found = [one for one in stored if one.record.release.revision.startswith(revision or "")]
    if found:
        return found
    what = f"{name} is not in the store" + (f" at {revision}" if revision else "")
    raise NotFoundError(what, store.home, _where_else(there))


def _where_else(there: Inventory) -> str:
    rule = "`internlm-zoo cache list` shows what is"
    if not there.unread:
        return rule
    first = quote(str(there.unread[0].path))
    return f"{rule}; of a release whose record cannot be read name the folder: internlm-zoo cache rm {first}"


def removal_of(store: Store, chosen: Sequence[AnyRelease]) -> Removal:
    """Of some releases, with the blobs that only they have."""
    paths = {one.path for one in chosen}
    there = inventory(store)
    stay = [one for one in there.all if one.path not in paths]
    needed = _needed(store, stay)
    gone = set() if needed is None else (_needed(store, chosen) or set()) - needed
    unread = tuple(one for one in stay if isinstance(one, UnreadableRelease))
    notes = (note for note, sha256 in notes_in(store.aliases) if sha256 in gone)
    files = (*_places(store, sorted(gone)), *notes)
    return _removal(tuple(sorted(paths)), files, unread)


def leftovers(store: Store) -> Removal:
    """Blobs of no release, and downloads that nobody goes on with. Ask for it, and carry it out, while you
    are `alone` in the store."""
    there = inventory(store)
    needed = _needed(store, there.all)
    found = sorted(store.partial.glob("*"))
    parts = [part for part in found if is_ours(part.name) and part != lock_of(store)]
    if needed is None:  # nobody knows what is of no release
        return _removal((), parts, there.unread)
    loose = [blob.name for blob in blobs_of(store) if blob.name not in needed]
    notes = (note for note, sha256 in notes_in(store.aliases) if sha256 not in needed)
    return _removal((), (*_places(store, loose), *notes, *parts), there.unread)


def remove(store: Store, removal: Removal) -> None:
    """Carry it out. Raises UsageError where the system does not let it."""
    with disk(store.home):
        for folder in removal.releases:
            _remove_release(store, folder)
        for file in removal.files:
            contained.remove(store.part_of(file), file)


def _remove_release(store: Store, folder: Path) -> None:
    with draft(store.partial, "removed") as aside:
        try:
            contained.take_out(store.releases, folder, aside)
            contained.remove(store.partial, aside)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _empty(store, folder)
            contained.remove(store.releases, folder)
    for parent in (folder.parent, folder.parent.parent):
        contained.remove_if_empty(store.releases, parent)  # unless other revisions are in it


def _empty(store: Store, folder: Path) -> None:
    """The same with nothing in it but the record, where it cannot be renamed (a lower layer's in overlayfs):
    what a kill leaves of it is still known as a release, and can be named."""
    for path in folder.iterdir():
        if path.name != METADATA:
            contained.remove(store.releases, path)


def _needed(store: Store, releases: Iterable[AnyRelease]) -> set[str] | None:
    """The contents of their blobs; None where one of them does not let itself be seen."""
    contents: set[str] = set()
    inodes: set[Inode] = set()
    for one in releases:
        if isinstance(one, StoredRelease):
            contents |= {file.sha256 for file in one.record.release.files if file.sha256}
        elif one.inodes is None:
            return None
        else:
            inodes |= one.inodes
    if inodes:
        contents |= {blob.name for blob in blobs_of(store) if inode_of(blob) in inodes}
    return contents


def _places(store: Store, contents: Iterable[str]) -> Iterator[Path]:
    """Where the store keeps something of these contents, but for their other names. What lies behind a link
    is not the store's."""
    for sha256 in contents:
        places = (store.blob(sha256), store.blocks(sha256))
        yield from (place for place in places if not place.parent.is_symlink())


def _removal(
    releases: tuple[Path, ...], files: Iterable[Path], unread: tuple[UnreadableRelease, ...]
) -> Removal:
    there = tuple(file for file in files if os.path.lexists(file))
    return Removal(releases, there, sum(map(_size, there)), unread)


def _size(path: Path) -> int:
    is_folder = path.is_dir() and not path.is_symlink()
    return sum(sizes_below(path)) if is_folder else path.lstat().st_size
