"""The `.md5` files that some releases put beside their weights: where there is one, it must match."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import closing
from functools import partial

from converters.errors import IntegrityError
from converters.formats.bytesource import hex_of
from converters.formats.folder import Folder, read_whole
from converters.streaming.stream import in_parallel

SUFFIX = ".md5"
_MD5 = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{32}(?![0-9a-fA-F])")
_LONGEST = 4096


def check_sidecars(folder: Folder, names: Sequence[str], workers: int | None = None) -> tuple[str, ...]:
    """Hash the files that have a side-car; returns their names.

    Raises IntegrityError naming the first file that is not what its side-car says, and a side-car that holds
    no digest.
    """
    present = set(folder.names())
    checked = [name for name in names if name + SUFFIX in present]
    in_parallel(partial(_check, folder), checked, workers)
    return tuple(checked)


def stated_digest(folder: Folder, name: str) -> str:
    """The MD5 that a file's side-car states, in hex. Raises IntegrityError if it holds none."""
    sidecar = name + SUFFIX
    found = _MD5.search(read_whole(folder, sidecar)[:_LONGEST].decode("utf-8", "replace"))
    if found is None:
        raise IntegrityError("it holds no MD5 digest", folder.where(sidecar), "fetch it again")
    return found[0].lower()


def _check(folder: Folder, name: str) -> None:
    stated = stated_digest(folder, name)
    with closing(folder.open(name)) as file:
        digest = hex_of(file, hashlib.md5(usedforsecurity=False))
    if digest != stated:
        what = f"its MD5 is {digest}, and {name + SUFFIX} says {stated}"
        fix = "the file is damaged or of another release: fetch both again"
        raise IntegrityError(what, folder.where(name), fix)
