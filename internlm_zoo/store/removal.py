"""Takes releases, and bytes that no release needs, out of the store.

A release disappears in one rename; its blobs follow unless another release has them. A download that is
under way is left alone: what it has brought already may belong to no release yet.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from internlm_zoo.errors import UsageError
from internlm_zoo.ownership import draft, holder_in
from internlm_zoo.store.aliases import notes_of, notes_of_others
from internlm_zoo.store.inventory import Holding, holdings
from internlm_zoo.store.layout import Store


@dataclass(frozen=True)
class Removal:
    """What goes, or went. releases: folders. files: blobs and unfinished downloads. size: bytes of these."""

    releases: tuple[Path, ...]
    files: tuple[Path, ...]
    size: int


def removal_of(store: Store, chosen: Sequence[Holding]) -> Removal:
    """Of some releases, with the blobs that only they have."""
    paths = {holding.path for holding in chosen}
    kept = _needed(holding for holding in holdings(store) if holding.path not in paths)
    gone = _needed(chosen) - kept
    return _removal(tuple(sorted(paths)), (*_places(store, sorted(gone)), *notes_of(store.aliases, gone)))


def leftovers(store: Store) -> Removal:
    """Blobs of no release, and downloads that nobody goes on with.

    Raises UsageError while a download is under way.
    """
    holder = holder_in(store.partial)
    if holder is not None:
        what = f"a download is under way: {holder}"
        raise UsageError(what, store.partial, "wait for its end, and run it again")
    needed = _needed(holdings(store))
    loose = [blob.name for blob in sorted(store.blobs.glob("??/*")) if blob.name not in needed]
    names = notes_of_others(store.aliases, needed)
    return _removal((), (*_places(store, loose), *names, *sorted(store.partial.glob("*"))))


def remove(store: Store, removal: Removal) -> None:
    """Carry it out."""
    for folder in removal.releases:
        with draft(store.partial, "removed") as aside:
            folder.rename(aside)
            shutil.rmtree(aside)
        for parent in (folder.parent, folder.parent.parent):
            with suppress(OSError):  # other revisions are in it
                parent.rmdir()
    for file in removal.files:
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)


def _needed(held: Iterable[Holding]) -> set[str]:
    return {file.sha256 for holding in held for file in holding.record.release.files if file.sha256}


def _places(store: Store, contents: Iterable[str]) -> Iterator[Path]:
    """Where the store keeps something of these contents, but for their other names."""
    for sha256 in contents:
        yield store.blob(sha256)
        yield store.blocks(sha256)


def _removal(releases: tuple[Path, ...], files: Iterable[Path]) -> Removal:
    there = tuple(file for file in files if file.exists())
    return Removal(releases, there, sum(size for file in there for size in _sizes(file)))


def _sizes(path: Path) -> Iterator[int]:
    inside = path.rglob("*") if path.is_dir() else (path,)
    return (file.lstat().st_size for file in inside if not file.is_dir())
