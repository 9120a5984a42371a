"""Names of unfinished files that say which process writes them, so that others can tell what a kill left.

`<key>.<process>-<machine>-<random>.part`. It does without locks, which do not work everywhere (some network
file systems).
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
import time
import zlib
from pathlib import Path

_FREE = "free"
# A process id may be used again, and another machine's cannot be asked: after this many seconds without a
# write the owner is taken for dead.
_SILENCE = 60.0


def own_name(key: str) -> str:
    """A name that says it belongs to this process, drawn anew each time. key: without a dot."""
    return f"{key}.{os.getpid()}-{machine()}-{secrets.token_hex(4)}.part"


def free_name(key: str) -> str:
    """The same of nobody."""
    return f"{key}.{_FREE}-{secrets.token_hex(4)}.part"


def abandoned(folder: Path, key: str = "") -> list[Path]:
    """What is there under such a name whose process no longer lives. key: "" for any."""
    return [part for part in named(folder, key, ".part") if not is_owned(part)]


def named(folder: Path, key: str, *suffixes: str) -> list[Path]:
    """What is there of a key ("": of any), by its suffixes. A pattern for each of many files would take
    longer than the files."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a Path for each name would, too
    except FileNotFoundError:
        return []
    start = f"{key}." if key else ""
    return [folder / name for name in names if name.startswith(start) and name.endswith(suffixes)]


def sweep(folder: Path, key: str) -> None:
    """Remove what is abandoned there: for drafts, which nobody goes on with."""
    for left in abandoned(folder, key):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def is_owned(part: Path) -> bool:
    """Whether a process that lives is writing it."""
    process, _, rest = part.name.split(".")[1].partition("-")
    if process == _FREE:
        return False
    try:
        recent = time.time() - part.stat().st_mtime < _SILENCE
    except FileNotFoundError:
        return False
    here = rest.startswith(machine())
    return recent and (lives(int(process)) if here else True)


def machine() -> str:
    """This one's short name."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def lives(process: int) -> bool:
    """Whether a process of this machine does."""
    if (
        sys.platform == "win32"
    ):  # os.kill would end it; a file in use cannot be renamed there, so that is safe
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
