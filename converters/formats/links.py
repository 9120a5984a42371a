"""Where the links in a folder of others may lead.

A folder of strangers may hold `special_tokens_map.json -> /etc/shadow`, and what lies beside weights is
copied as it is. So such files lie in the folder, or where the caches that show folders of links keep their
bytes. Weights may lie anywhere, on a scratch disk say: they are parsed, and what is no weights is none.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from converters.errors import IntegrityError
from converters.formats.access import regular
from converters.system.open_files import Opener

_PARSED = re.compile(r".+\.(safetensors|bin|pt|pth|ckpt|gguf)(\.index\.json|\.md5)?")
"""Names of weights, of their indexes and side-cars, which are never copied."""
_CACHE_DEPTH = 4
"""How far above a release the blobs of all lie, at most: above `snapshots/REVISION` in the caches of
huggingface_hub and openMind, above `releases/HUB/NAME/REVISION` in ours."""
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # git's sha1 or a sha256, as caches name their blobs
_DESCRIPTORS = "/proc/self/fd"
_PATH_ONLY: int | None = getattr(os, "O_PATH", None)


def opener_of(directory: Path, name: str) -> Opener:
    """What opens a file of a folder. Raises IntegrityError for a link that leads out of it, unless such a
    file may, and what `regular` raises."""
    return regular if _PARSED.fullmatch(name) else enclosed_in(directory)


def enclosed_in(directory: Path) -> Opener:
    """What opens files that lie in a directory, links followed, or in the cache that it is a view of. Raises
    IntegrityError for others, and what `regular` raises."""

    def enclosed(path: str, flags: int) -> int:
        file = regular(path, flags)
        place = _place_of(file, path)
        if not _lies_in(_real(directory), place):
            os.close(file)
            raise _leads_out(path, place)
        return file

    return enclosed


def is_enclosed(directory: Path, name: str) -> bool:
    """Whether a file lies in a folder, links followed, or in the cache that it is a view of."""
    return _lies_in(_real(directory), _real(directory / name))


def _lies_in(directory: Path, file: Path) -> bool:
    """Blobs may have been moved to another disk, with a link in their place: their names tell them."""
    blobs = [parent / "blobs" for parent in directory.parents[:_CACHE_DEPTH]]
    moved = map(_real, blobs) if _DIGEST.fullmatch(file.name) else ()
    return any(file.is_relative_to(place) for place in (directory, *blobs, *moved))


def _real(path: str | os.PathLike[str]) -> Path:
    """Where a path leads, links followed; by the same of its names as `_place_of`, where it has several (as
    where case does not count)."""
    if _PATH_ONLY is None or not os.path.lexists(path):
        return Path(os.path.realpath(path))
    try:
        file = os.open(path, _PATH_ONLY)
    except OSError:  # a link that leads nowhere
        return Path(os.path.realpath(path))
    try:
        return _place_of(file, path)
    finally:
        os.close(file)


def _place_of(file: int, path: str | os.PathLike[str]) -> Path:
    """Where an open file lies, whatever its name leads to by now; where the system does not say, where the
    name leads. Raises IntegrityError if that is another file."""
    with suppress(OSError):
        return Path(f"{_DESCRIPTORS}/{file}").readlink()
    real = Path(os.path.realpath(path))
    if not os.path.samestat(os.fstat(file), real.lstat()):
        raise IntegrityError("another file took its place while it was opened", str(path), "run it again")
    return real


def _leads_out(path: str, place: Path) -> IntegrityError:
    what = f"it is a link that leads out of the directory, to {place}"
    return IntegrityError(what, path, "put a copy of the file in its place")
