"""What is left of a download after a kill: `<key>.<owner>.part` and, beside it, a small `.json`.

The owner stands in the name, drawn anew by each process that takes a file over (an atomic rename), so that
two processes never write into one file, even where the lock that should keep them apart does not work (some
network file systems): a partial file whose owner lives is left to it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import time
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from internlm_zoo.transfer.values import Wanted

_VERSION = 1
_FREE = "free"
# A process id may be used again, and another machine's cannot be asked: after this many seconds without a
# write the owner is taken for dead.
_SILENCE = 60.0


@dataclass(frozen=True)
class Journal:
    """wanted: the file it was about. flushed: bytes of the partial file that count. validators: ETag per
    door, an origin and the host that answered for it."""

    wanted: Wanted
    flushed: int = 0
    validators: dict[str, str] = field(default_factory=dict)


def write(part: Path, journal: Journal) -> None:
    """Atomically, beside the partial file."""
    target = _beside(part)
    fresh = target.with_suffix(".new")
    fresh.write_text(json.dumps({"version": _VERSION, **asdict(journal)}), encoding="utf-8")
    fresh.replace(target)


def own_name(key: str) -> str:
    """A name that says it belongs to this process, drawn anew each time."""
    return f"{key}.{os.getpid()}-{_machine()}-{secrets.token_hex(4)}.part"


def abandoned(folder: Path, key: str) -> list[Path]:
    """What is there under such a name whose process no longer lives."""
    return [part for part in folder.glob(f"{key}.*.part") if not _owned(part)]


def claim(folder: Path, key: str, wanted: Wanted) -> tuple[Path, Journal]:
    """A name for our own partial file, and the journal of what an earlier run left there (flushed 0:
    nothing).

    Takes the longest one over; the others, and whatever has no readable journal, go.
    """
    mine = folder / own_name(key)
    left = {part: _read(part, wanted) for part in abandoned(folder, key)}
    best = Journal(wanted)
    for part, journal in sorted(left.items(), key=lambda item: -item[1].flushed):
        if journal.flushed and not best.flushed and _take(part, mine):
            best = journal
            write(mine, best)
        remove(part)
    return mine, best


def waiting(folder: Path, key: str) -> int:
    """Bytes on the disk that the next `claim` can count on, about."""
    return max((part.stat().st_size for part in folder.glob(f"{key}.*.part")), default=0)


def release(part: Path) -> None:
    """Leave the partial file for whoever comes next."""
    key = part.name.split(".", 1)[0]
    free = part.with_name(f"{key}.{_FREE}-{secrets.token_hex(4)}.part")
    if _beside(part).exists():
        _beside(part).replace(_beside(free))
        part.replace(free)
    else:
        remove(part)


def remove(part: Path) -> None:
    """The partial file and its journal."""
    part.unlink(missing_ok=True)
    _beside(part).unlink(missing_ok=True)
    _beside(part).with_suffix(".new").unlink(missing_ok=True)


def forget(part: Path) -> None:
    """The journal alone: the file itself is about to get its final name."""
    _beside(part).unlink(missing_ok=True)


def _beside(part: Path) -> Path:
    return part.with_suffix(".json")


def _read(part: Path, wanted: Wanted) -> Journal:
    """What the journal says, as far as the file bears it out; nothing flushed where it is torn or about
    other bytes."""
    try:
        entry = json.loads(_beside(part).read_text(encoding="utf-8"))
        journal = Journal(Wanted(**entry["wanted"]), int(entry["flushed"]), dict(entry["validators"]))
        size = part.stat().st_size
    except (OSError, ValueError, KeyError, TypeError):
        return Journal(wanted)
    same = entry["version"] == _VERSION and (
        journal.wanted.size,
        journal.wanted.sha256,
        journal.wanted.git_sha1,
    ) == (
        wanted.size,
        wanted.sha256,
        wanted.git_sha1,
    )
    return Journal(wanted, min(journal.flushed, size), journal.validators) if same else Journal(wanted)


def _take(part: Path, mine: Path) -> bool:
    try:
        part.rename(mine)
    except OSError:  # somebody was faster, or (Windows) has it open
        return False
    return True


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _owned(part: Path) -> bool:
    """Whether a process that lives is writing it."""
    process, _, rest = part.name.split(".")[1].partition("-")
    if process == _FREE:
        return False
    try:
        recent = time.time() - part.stat().st_mtime < _SILENCE
    except FileNotFoundError:
        return False
    here = rest.startswith(_machine())
    return recent and (_lives(int(process)) if here else True)


def _lives(process: int) -> bool:
    if (
        sys.platform == "win32"
    ):  # os.kill would end it; a file in use cannot be renamed there, so claim() is safe
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
