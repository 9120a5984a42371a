"""Refuses what a hostile hub could put into a listing, before a byte of it reaches the disk.

File names become paths, revisions and digests become directory names in the store. A name is accepted only if
it means the same file, inside the release, on every system we run on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from internlm_zoo.errors import IntegrityError, NotFoundError
from internlm_zoo.sources.base import RemoteFile, Snapshot

_WINDOWS_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{device}{digit}" for device in ("com", "lpt") for digit in "0123456789¹²³"}
)
_INVISIBLE = frozenset({"Cc", "Cf", "Cs"})
_LONGEST_NAME = 255
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")


def check_path(path: str, where: str | None = None) -> None:
    """Raise IntegrityError unless `path` is a plain relative path, with forward slashes. where: its list."""
    reason = _reason(path)
    if reason:
        raise IntegrityError(f"refused the file name {path!r}: {reason}", where)


def check_listing(paths: Iterable[str], where: str | None = None) -> None:
    """Check every path, and that none is there twice, or a file and a folder."""
    seen: set[str] = set()
    for path in paths:
        check_path(path, where)
        if path in seen:
            raise IntegrityError(f"refused the listing: {path!r} is in it twice", where)
        seen.add(path)
    for path in seen:
        for folder in _folders(path):
            if folder in seen:
                raise IntegrityError(f"refused the listing: {folder!r} is a file and a folder", where)


def twins(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
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
    check_path(snapshot.revision, where)
    if "/" in snapshot.revision:
        raise IntegrityError(f"refused the revision {snapshot.revision!r}: it is not one name", where)
    check_listing((file.path for file in snapshot.files), where)
    for file in snapshot.files:
        _check_facts(file, where)
    return snapshot


def _check_facts(file: RemoteFile, where: str) -> None:
    if file.size is not None and file.size < 0:
        raise IntegrityError(f"refused the listing: {file.path!r} has a size of {file.size} bytes", where)
    for name, value, form in (("sha256", file.sha256, _SHA256), ("git sha1", file.git_sha1, _SHA1)):
        if value is not None and not form.fullmatch(value):
            raise IntegrityError(f"refused the listing: the {name} of {file.path!r} is not a digest", where)


def _reason(path: str) -> str | None:
    if not path:
        return "it is empty"
    if path.startswith("/"):
        return "it is absolute"
    if any(unicodedata.category(character) in _INVISIBLE for character in path):
        return "it holds a control or invisible character"
    if "\\" in path or ":" in path:
        return "it means another place on Windows"
    return next(filter(None, map(_reason_of_part, path.split("/"))), None)


def _reason_of_part(part: str) -> str | None:
    if part in ("", ".", ".."):
        return f"it holds the path step {part!r}"
    if part[-1] in ". ":
        return "Windows drops a trailing dot or space"
    if part.split(".", 1)[0].rstrip().lower() in _WINDOWS_RESERVED:
        return f"{part!r} is a device on Windows"
    if part.lower() == ".git":
        return "it would write into a git repository"
    if len(part.encode()) > _LONGEST_NAME:
        return f"a name longer than {_LONGEST_NAME} bytes"
    return None


def folded(path: str) -> str:
    """The same for all spellings that some system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _folders(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))
