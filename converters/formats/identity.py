"""What tells a file from what it becomes when somebody writes to it, or puts another in its place.

Facts: inode(7). A write sets mtime and ctime; whoever sets mtime back sets ctime to that moment; a file that
is renamed over another has its own inode. A link to a file and its mode change ctime as well. The device is
not part of it: it is another on each node of a cluster, and after the machine was started again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from converters.errors import IntegrityError, NotFoundError
from converters.formats.access import reading

_FIX = "let whatever writes to it come to its end, then run it again"


@dataclass(frozen=True)
class Identity:
    """Of a file that is open, or of what a name leads to."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def looks_like(self, other: Identity) -> bool:
        """Whether both have the same size and time of change, as two that hold the same bytes do."""
        return (self.size, self.mtime_ns) == (other.size, other.mtime_ns)


def identity_at(path: str | os.PathLike[str]) -> Identity | None:
    """Of what a name leads to; None if that is nothing. Raises AccessError."""
    try:
        with reading(path):
            return Identity.of(Path(path).stat())
    except NotFoundError:
        return None


def changed(where: str, before: Identity, now: Identity | None) -> IntegrityError:
    """What to say of a file that is not what it was. now: None where there is none."""
    if now is None:
        what = "it was taken away while it was read"
    elif now.size != before.size:
        what = f"it changed while it was read: it had {before.size:,} bytes, and has {now.size:,}"
    elif now.inode != before.inode:
        what = "another file took its place while it was read"
    elif now.mtime_ns != before.mtime_ns:
        what = "it was written to while it was read"
    else:
        what = "it may have been written to while it was read: its time of change was set back, or its mode"
        what += " or its links are others now"
    return IntegrityError(what, where, _FIX)
