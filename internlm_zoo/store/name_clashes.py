"""Two names of a release that mean one file where case, or the way an accent is written, does not count.

Which disks are such is found out on the disk itself, with the very names: it depends on the file system, its
settings and the folder, and on nothing else that could be asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from converters.errors import parameter
from internlm_zoo.errors import UnsupportedError
from internlm_zoo.fs.ownership import draft
from internlm_zoo.sources.paths import clashing


def check_twins(folder: Path, scratch: Path, paths: Iterable[str]) -> None:
    """Raises UnsupportedError where two of these files cannot both lie in a folder. scratch: a folder of ours
    on the same disk, to try it in."""
    found = [pair for pair in clashing(paths) if _are_one(scratch, *pair)]
    if found:
        named = ", ".join(f"{_shown(one, other)} and {_shown(other, one)}" for one, other in found)
        left_out = parameter("exclude", [one for one, _ in found])
        fix = f"leave one out, as with {left_out}, or use a disk that tells them apart"
        raise UnsupportedError(f"one file on this disk: {named}", folder, fix)


def _are_one(scratch: Path, one: str, other: str) -> bool:
    with draft(scratch, "twins") as trial:
        (trial / one).parent.mkdir(parents=True)
        (trial / one).touch()
        return os.path.lexists(trial / other)


def _shown(path: str, other: str) -> str:
    """With its characters by number where it looks like the other."""
    return ascii(path) if path.casefold() != other.casefold() else repr(path)
