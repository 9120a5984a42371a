"""Room on the target's disk: whether it is enough, and what to say when it is used up after all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from converters.errors import NoSpaceError
from converters.plan import Plan
from converters.sinks.staging import Staging, is_begun


@dataclass(frozen=True)
class Space:
    """Bytes. needed: still to be written. free: where they go, once what is of no use there is removed."""

    needed: int
    free: int


def check_space(plan: Plan, staging: Staging, engine: str) -> Space:
    """What an interrupted run has written is not needed again. Raises NoSpaceError if too little is free."""
    parent = next(parent for parent in staging.target.parents if parent.exists())
    held, free = _held(staging.path, plan), shutil.disk_usage(parent).free
    begun = is_begun(staging.path, plan, engine)
    space = Space(plan.nbytes - held, free) if begun else Space(plan.nbytes, free + held)
    if space.free < space.needed:
        raise NoSpaceError(
            f"{space.needed:,} bytes are needed and {space.free:,} are free",
            parent,
            "free some space or choose another disk",
        )
    return space


def _held(path: Path, plan: Plan) -> int:
    """Bytes of disk that the plan's weight files in a directory take."""
    sizes = {path / file.name: file.layout.size for file in plan.files}
    return sum(min(size, _allocated(file.stat())) for file, size in sizes.items() if file.is_file())


def _allocated(stat: os.stat_result) -> int:
    blocks: int | None = getattr(stat, "st_blocks", None)  # of 512 bytes; Windows has none
    return stat.st_size if blocks is None else blocks * 512


@contextmanager
def full_disk_named(target: Path) -> Iterator[None]:
    """A full disk inside is a NoSpaceError."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoSpaceError(
            "the disk is full",
            target.parent,
            "free some space and run it again: it goes on where it stopped",
        ) from error
