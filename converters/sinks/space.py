"""Room on the target's disk: whether it is enough, and what to say when it is used up after all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from converters.errors import AccessError, NoSpaceError
from converters.planning.plan import Plan
from converters.sinks.staging import Staging, is_begun
from converters.system.filesystem import refusal_of, room


@dataclass(frozen=True)
class Space:
    """Bytes. needed: still to be written. free: where they go, once what is of no use there is removed; None
    where nobody says."""

    needed: int
    free: int | None


def check_space(plan: Plan, staging: Staging, engine: str) -> Space:
    """What an interrupted run has written is not needed again. Raises NoSpaceError if too little is free."""
    parent = next(parent for parent in staging.target.parents if parent.exists())
    # With the bytes of disk that each takes.
    found = {file: _allocated(file.stat()) for file in staging.path.rglob("*") if file.is_file()}
    parts = plan.files if is_begun(staging.path, plan, engine) else ()
    kept = sum(min(part.layout.size, found.get(staging.path / part.name, 0)) for part in parts)
    removed = sum(found.values()) - kept
    free = room(parent)
    space = Space(plan.nbytes - kept, None if free is None else free + removed)
    if space.free is not None and space.free < space.needed:
        what = f"{space.needed:,} bytes are needed and {space.free:,} are free"
        raise NoSpaceError(what, parent, "free some space or choose another disk")
    return space


def _allocated(stat: os.stat_result) -> int:
    blocks: int | None = getattr(stat, "st_blocks", None)  # of 512 bytes; Windows has none
    return stat.st_size if blocks is None else blocks * 512


@contextmanager
def refusals_named(target: Path) -> Iterator[None]:
    """What the system refuses inside is an error about the target: see `writing`, else an AccessError."""
    try:
        yield
    except OSError as error:
        refusal = refusal_of(error, target, "choose another target")
        if refusal is not None:
            raise refusal from error
        what = f"the system refuses it: {error.strerror or error}"
        fix = "choose another target, or run it again: it goes on where it stopped"
        where = error.filename if Path(error.filename or "").is_absolute() else target
        raise AccessError(what, where, fix) from error
