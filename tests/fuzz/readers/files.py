"""Readers of a file on disk, as readers of bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path


@cache
def _folder(name: str) -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """One for each file name, which goes with the process."""
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return folder, path


def in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """read: gets the path of a file of that name below a folder of its own."""

    def written(data: bytes) -> object:
        path = _folder(name)[1]
        path.write_bytes(data)
        return read(path)

    return written
