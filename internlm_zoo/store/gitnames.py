"""`<home>/git/ab/<sha1>.<sha256>`: which blob has the bytes that a hub knows by git's sha1 alone.

Empty files: the name is all there is to know, so it is there or not. Written once both digests were found in
the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from internlm_zoo.registry.lock import LockedFile
from internlm_zoo.store.layout import Store


def remember(store: Store, file: LockedFile, sha256: str) -> None:
    """That a file, as its hub lists it, has this sha256."""
    if file.sha256 is None and file.has_digest:
        note = store.git / f"{file.git_sha1}"[:2] / f"{file.git_sha1}.{sha256}"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()


def remembered(store: Store, file: LockedFile) -> str | None:
    """The sha256 of a file that is listed without; None where nothing is known."""
    if not file.has_digest:
        return None
    notes = (store.git / f"{file.git_sha1}"[:2]).glob(f"{file.git_sha1}.*")
    return next((note.name.partition(".")[2] for note in notes), None)


def notes_of(store: Store, contents: Collection[str]) -> Iterator[Path]:
    """What is remembered of blobs."""
    return (note for note in sorted(store.git.glob("??/*")) if note.name.partition(".")[2] in contents)
