"""Refuses what a hostile hub could put into a listing, before a byte of it reaches the disk.

File names become paths, revisions and digests become directory names in the store. A name is accepted only if
it means the same file, inside the release, on every system we run on.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

from internlm_zoo.errors import IntegrityError, NotFoundError
from internlm_zoo.files import ALGORITHMS, File, spoken
from internlm_zoo.names import fault_in
from internlm_zoo.sources.base import Snapshot

FILES = 100_000
"""In one listing. Hugging Face advises to keep a repository below that."""
LARGEST_FILE = 8 * 10**12
"""In bytes. Hugging Face takes no file above 0.5 TB, and the largest checkpoints are some TB in all."""

_SHOWN = 100
_FORMS = [(spoken(name), it.form.fullmatch, it.of_nothing) for name, it in ALGORITHMS.items()]


def check_path(path: str, where: str | None = None) -> None:
    """Raise IntegrityError unless `path` is a plain relative path, with forward slashes. where: its list."""
    reason = fault_in(path)
    if reason:
        raise IntegrityError(f"refused the file name {_shown(path)}: {reason}", where)


def check_listing(paths: Iterable[str], where: str | None = None) -> None:
    """Check every path, and that none is there twice, or a file and a folder."""
    seen: set[str] = set()
    for path in paths:
        check_path(path, where)
        if path in seen:
            raise IntegrityError(f"refused the listing: {_shown(path)} is in it twice", where)
        seen.add(path)
    for path in seen:
        for folder in _folders(path):
            if folder in seen:
                raise IntegrityError(f"refused the listing: {_shown(folder)} is a file and a folder", where)


def clashing(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Of paths that are all different, a file and another, or a folder of another, that are one where neither
    case nor the way an accent is written counts."""
    seen: dict[str, str] = {}
    paths = sorted(paths)
    for path in paths:
        first = seen.setdefault(folded(path), path)
        if first != path:
            yield first, path
    for folder in sorted({folder for path in paths for folder in _folders(path)}):
        if folded(folder) in seen:
            yield seen[folded(folder)], folder


def check_snapshot(snapshot: Snapshot) -> Snapshot:
    """The snapshot itself, once its names, revision, sizes and digests are known to be harmless.

    Raises IntegrityError, or NotFoundError if it holds no file: no hub means that as a release.
    """
    where = f"{snapshot.hub}: {snapshot.repo}"
    if not snapshot.files:
        raise NotFoundError(f"{snapshot.hub} lists no file in {snapshot.repo}", where)
    if len(snapshot.files) > FILES:
        raise IntegrityError(f"refused the listing: it has more than {FILES:,} files", where)
    check_path(snapshot.revision, where)
    if "/" in snapshot.revision:
        raise IntegrityError(f"refused the revision {_shown(snapshot.revision)}: it is not one name", where)
    check_listing((file.path for file in snapshot.files), where)
    for file in snapshot.files:
        if wrong := next(_faults(file), None):
            raise IntegrityError(f"refused the listing: {_shown(file.path)} has {wrong}", where)
    return snapshot


def _faults(file: File) -> Iterator[str]:
    """No bytes have digests of another form, nor any but no bytes those of nothing."""
    if file.size is not None and file.size < 0:
        yield "a size below zero"
    if file.size is not None and file.size > LARGEST_FILE:
        yield f"a size above {LARGEST_FILE:,} bytes"
    for digest, (name, is_one, of_nothing) in zip(file.digests, _FORMS):  # noqa: B905 - 100,000 times
        if digest is None:
            continue
        if not is_one(digest):
            yield f"a {name} that is not a digest"
        elif file.size is not None and (digest == of_nothing) != (file.size == 0):
            yield f"{'no byte' if file.size == 0 else 'bytes'}, and a {name} that says otherwise"


def _shown(text: str) -> str:
    """As it may stand in a message."""
    rest = len(text) - _SHOWN
    return repr(text) if rest <= 0 else f"{text[:_SHOWN]!r} and {rest:,} characters more"


def folded(path: str) -> str:
    """The same for all spellings that some system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _folders(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))
