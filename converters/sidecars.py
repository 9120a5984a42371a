"""The `.md5` files that some releases put beside their weights: where there is one, it must match."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from converters.errors import IntegrityError
from converters.execute import in_parallel
from converters.formats.bytesource import hex_of

_SUFFIX = ".md5"
_MD5 = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{32}(?![0-9a-fA-F])")
_LONGEST = 4096


def check_sidecars(files: Sequence[Path], workers: int | None = None) -> tuple[str, ...]:
    """Hash the files that have a side-car; returns their names.

    Raises IntegrityError naming the first file that is not what its side-car says, and a side-car that holds
    no digest.
    """
    checked = [file for file in files if _sidecar(file).is_file()]
    in_parallel(_check, checked, workers)
    return tuple(file.name for file in checked)


def _sidecar(file: Path) -> Path:
    return file.with_name(file.name + _SUFFIX)


def _check(file: Path) -> None:
    with _sidecar(file).open("rb") as stream:
        found = _MD5.search(stream.read(_LONGEST).decode("utf-8", "replace"))
    if found is None:
        raise IntegrityError("it holds no MD5 digest", _sidecar(file), "remove it, or fetch it again")
    digest = hex_of(file, hashlib.md5(usedforsecurity=False))
    if digest != found[0].lower():
        raise IntegrityError(
            f"its MD5 is {digest}, and {_sidecar(file).name} says {found[0].lower()}",
            file,
            "the file is damaged or of another release: fetch both again",
        )
