"""Digests of a file, computed while its bytes pass or from the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from converters.formats.access import regular
from internlm_zoo.files import File

_CHUNK = 1 << 20


class Digest:
    """sha256 always; the git blob's sha1 as well where that is all the hub published."""

    def __init__(self, wanted: File) -> None:
        self._wanted = wanted
        self._sha256 = hashlib.sha256()
        self._git = None
        if wanted.sha256 is None and wanted.git_sha1 is not None and wanted.size is not None:
            self._git = hashlib.sha1(b"blob %d\0" % wanted.size, usedforsecurity=False)

    def update(self, chunk: bytes | memoryview) -> None:
        self._sha256.update(chunk)
        if self._git is not None:
            self._git.update(chunk)

    def copy(self) -> Digest:
        """As it is now, to go back to."""
        twin = Digest(self._wanted)
        twin._sha256 = self._sha256.copy()
        twin._git = self._git.copy() if self._git is not None else None
        return twin

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def mismatch(self) -> str | None:
        """What is not as wanted, in words; None if all is."""
        wanted = self._wanted
        if wanted.sha256 is not None and self.sha256 != wanted.sha256:
            return f"expected sha256 {wanted.sha256}, found {self.sha256}"
        if self._git is not None and self._git.hexdigest() != wanted.git_sha1:
            return f"expected git sha1 {wanted.git_sha1}, found {self._git.hexdigest()}"
        return None


def digest_file(path: Path, wanted: File, seen: Callable[[int], None] | None = None) -> Digest:
    """The digests of a file on the disk. seen: told the size of each piece. Raises OSError."""
    digest = Digest(wanted)
    with open(path, "rb", buffering=0, opener=regular) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if seen is not None:
                seen(len(chunk))
    return digest
