"""Where a target is made: in a hidden directory next to it, which becomes the target in one rename.

What an interrupted run has written stays there, and the same conversion goes on from it.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from converters.errors import NoSpaceError, UsageError
from converters.plan import Plan
from converters.sinks.journal import JOURNAL

_IDENTITY = "identity"
BOOKKEEPING = frozenset({_IDENTITY, JOURNAL})


class Staging:
    """The directory in which a target is made.

    Raises UsageError if the target exists, is not an empty directory, and is not to be replaced.
    """

    def __init__(self, target: Path, *, force: bool) -> None:
        self.target = target.resolve()
        self.path = self.target.with_name(f".{self.target.name}.converting")
        self._old = self.target.with_name(f".{self.target.name}.replaced")
        occupied = self.target.exists() and not (self.target.is_dir() and not any(self.target.iterdir()))
        if occupied and not force:
            raise UsageError(
                "the target exists and is not empty", target, "choose another, or replace it with --force"
            )

    def begin(self, plan: Plan) -> None:
        """Keep the weights that an interrupted run of the same conversion wrote, and nothing else."""
        mark, identity = self.path / _IDENTITY, identity_of(plan)
        if self.path.exists() and not (mark.is_file() and mark.read_text() == identity):
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        kept = {file.name for file in plan.files} | {JOURNAL}
        for left in self.path.iterdir():
            if left.name not in kept:
                left.unlink()
        mark.write_text(identity)

    def publish(self) -> None:
        """Put the finished directory in the target's place."""
        for name in BOOKKEEPING:
            (self.path / name).unlink()
        if self._old.exists():
            shutil.rmtree(self._old)
        if self.target.exists():
            self.target.rename(self._old)
        self.path.rename(self.target)
        if self._old.is_dir():
            shutil.rmtree(self._old)
        else:
            self._old.unlink(missing_ok=True)


def identity_of(plan: Plan) -> str:
    """Of all that decides the bytes of the weight files: the source's, how they
    are read, how they are written."""
    digest = hashlib.sha256()
    for file in plan.source.files:
        digest.update(plan.source.folder.identity(file).encode())
    for target in plan.files:
        digest.update(repr((target.name, target.layout.size, target.layout.spans)).encode())
    for side in (plan.source, plan):
        digest.update(repr((side.layout.name, sorted(side.choices.items(), key=str))).encode())
    digest.update(repr((sorted(plan.source.sizes.items()), plan.dtype)).encode())
    return digest.hexdigest()


def check_space(plan: Plan, target: Path) -> None:
    """Raises NoSpaceError if the target's disk has less free than the weights take."""
    parent = next(parent for parent in target.absolute().parents if parent.exists())
    free = shutil.disk_usage(parent).free
    if free < plan.nbytes:
        raise NoSpaceError(
            f"{plan.nbytes:,} bytes are needed and {free:,} are free",
            parent,
            "free some space or choose another disk",
        )
