"""What is left of a download after a kill: `<key>.<owner>.part` and, beside it, a small `.journal`.

The owner stands in the name, drawn anew by each process that takes a file over (an atomic rename): a partial
file whose owner lives is left to it, and who was taken for dead, and was not, finds that its file has another
name now.

The journal is lines of JSON, appended: first what the file is to become, then each block as it is filled,
with its BLAKE3 digest. A line that was torn, by a kill or a loss of power, ends it; a block that is not on
the disk as its line says is fetched again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.formats.access import regular
from converters.formats.jsontext import json_value
from converters.saved import PART_JOURNAL
from converters.system.filesystem import write_whole
from internlm_zoo.files import Digests, File
from internlm_zoo.fs.ownership import Owner, abandoned, free_name, named, owner_of
from internlm_zoo.names import is_sha256

# Of a journal, beyond twice those that count.
_SPARE_LINES = 2000
# Bytes of one line, which has a digest and the names of hubs; and of all.
_LONGEST, _MOST = 64 << 10, 256 << 20


@dataclass(frozen=True)
class KeptBlock:
    """What is here of a block, by the journal: bytes from its start, their BLAKE3, and their sources."""

    filled: int
    blake3: str
    sources: tuple[str, ...]


@dataclass
class Journal:
    """wanted: the file it is about. block_size: in bytes. blocks: by number. validators: ETag per server, an
    endpoint and the host that answered for it."""

    wanted: File
    block_size: int
    blocks: dict[int, KeptBlock] = field(default_factory=dict)
    validators: dict[str, str] = field(default_factory=dict)

    @property
    def here(self) -> int:
        return sum(kept.filled for kept in self.blocks.values())


class Writer:
    """Appends to the journal of a partial file that is ours; writes it anew, in one step, where most of it no
    longer counts. journal: what it says now. Raises OSError."""

    def __init__(self, part: Path, journal: Journal) -> None:
        self._path = _beside(part)
        self.journal = journal
        self._begin()

    def block(self, block: int, kept: KeptBlock) -> None:
        """What is here of a block now; 0 bytes: nothing of it counts."""
        self.journal.blocks[block] = kept
        self._append(_line(block, kept))

    def server(self, server: str, etag: str) -> None:
        self.journal.validators[server] = etag
        self._append({"door": server, "etag": etag})

    def close(self) -> None:
        self._file.close()

    def _begin(self) -> None:
        journal, fresh = self.journal, self._path.with_suffix(".new")
        lines = [PART_JOURNAL.marked({"block": journal.block_size, "wanted": journal.wanted.facts})]
        lines += [{"door": server, "etag": etag} for server, etag in journal.validators.items()]
        lines += [_line(block, kept) for block, kept in sorted(journal.blocks.items())]
        write_whole(self._path, b"".join(map(_encoded, lines)), fresh)
        self._file = self._path.open("ab", buffering=0)
        self._left = _SPARE_LINES + len(lines)

    def _append(self, line: dict[str, Any]) -> None:
        self._file.write(_encoded(line))
        self._left -= 1
        if not self._left:
            old = self._file
            self._begin()
            old.close()


@dataclass(frozen=True)
class Claimed:
    """A name for our own partial file, and the journal of what is in it (no blocks: there is none). note: of
    what could not be taken over."""

    path: Path
    journal: Journal
    note: str | None = None


def claim(owner: Owner, folder: Path, key: str, fresh: Journal) -> Claimed:
    """What earlier runs left there, or else `fresh`, a journal to begin with: takes the fullest over; the
    others, and whatever has no journal, go.

    What is another account's is copied where it cannot be had, and left where it cannot be read.
    """
    mine, note = owner.name(key), None
    left = {part: _read(part, fresh) for part in abandoned(folder, key)}
    best = fresh
    for part, journal in sorted(left.items(), key=lambda item: -item[1].here):
        if why := _why_left(part):
            note = why
            continue
        if journal.here and not best.here and _take(part, mine, journal):
            best = journal
        remove(part)
    _sweep(folder, key)
    return Claimed(mine, best, note)


def waiting(folder: Path, key: str) -> int:
    """Bytes on the disk that the next `claim` can count on, about."""
    return max((_held(part) for part in named(folder, key, ".part")), default=0)


def release(part: Path) -> None:
    """Leave the partial file for whoever comes next."""
    key = part.name.split(".", 1)[0]
    free = part.with_name(free_name(key))
    if _beside(part).exists():
        _beside(part).replace(_beside(free))
        part.replace(free)
    else:
        remove(part)


def remove(part: Path) -> None:
    """The partial file and its journal, as far as they may be removed."""
    with suppress(PermissionError):
        part.unlink(missing_ok=True)
    forget(part)


def clear(folder: Path, key: str) -> None:
    """What is abandoned there of a file that has its final name."""
    for part in abandoned(folder, key):
        remove(part)
    _sweep(folder, key)


def forget(part: Path) -> None:
    """The journal alone: the file itself has got its final name."""
    for path in (_beside(part), _beside(part).with_suffix(".new")):
        with suppress(PermissionError):
            path.unlink(missing_ok=True)


def _beside(part: Path) -> Path:
    return part.with_suffix(PART_JOURNAL.file)


def _encoded(line: dict[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _line(block: int, kept: KeptBlock) -> dict[str, Any]:
    return {"block": block, "filled": kept.filled, "blake3": kept.blake3, "authors": kept.sources}


def _read(part: Path, fresh: Journal) -> Journal:
    """What the journal says, as far as the file bears it out; nothing where it is about other bytes."""
    block_size, journal = fresh.block_size, Journal(fresh.wanted, fresh.block_size)
    lines = _lines(_beside(part))
    head = next(lines, {})
    same = PART_JOURNAL.reads(head) and head.get("block") == block_size
    if not (same and _content(head.get("wanted")) == _content(fresh.wanted.facts)):
        return journal
    try:
        size = part.stat().st_size
        for line in lines:
            if "door" in line:
                journal.validators[str(line["door"])] = str(line["etag"])
                continue
            kept = KeptBlock(int(line["filled"]), str(line["blake3"]), tuple(map(str, line["authors"])))
            block = int(line["block"])
            fits = 0 < kept.filled <= block_size and block >= 0 and block * block_size + kept.filled <= size
            if fits and is_sha256(kept.blake3):
                journal.blocks[block] = kept
            else:
                journal.blocks.pop(block, None)
    except (OSError, ValueError, KeyError, TypeError):
        return fresh
    return journal


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Up to the first that is torn."""
    try:
        with open(path, "rb", opener=regular) as file:
            text = file.read(_MOST)
    except OSError:
        return
    for line in text.split(b"\n")[:-1]:
        try:
            value = json_value(line, _LONGEST)
        except ValueError:
            return
        if not isinstance(value, dict):
            return
        yield value


def _content(wanted: object) -> tuple[object, ...] | None:
    """What tells one content from another."""
    if not isinstance(wanted, dict):
        return None
    return tuple(wanted.get(name) for name in ("size", *Digests._fields))


def _held(part: Path) -> int:
    """Bytes of the disk, which are fewer than the size where blocks are missing in between."""
    try:
        stat = part.stat()
    except FileNotFoundError:
        return 0
    return min(stat.st_size, getattr(stat, "st_blocks", stat.st_size) * 512)


def _sweep(folder: Path, key: str) -> None:
    """Journals without their file: a kill between two renames leaves such."""
    for path in named(folder, key, PART_JOURNAL.file, ".new"):
        part = path.with_suffix(".part")
        if not part.exists() and owner_of(part) is None:
            path.unlink(missing_ok=True)


def _take(part: Path, mine: Path, journal: Journal) -> bool:
    try:
        part.open("r+b").close()
        part.rename(mine)
    except PermissionError:
        _copy(part, mine, journal)
    except OSError:  # somebody was faster, or (Windows) has it open
        return False
    with suppress(OSError):  # it is read already
        _beside(part).replace(_beside(mine))
    return True


def _copy(part: Path, mine: Path, journal: Journal) -> None:
    """What the journal says is there; the holes in between stay holes."""
    with part.open("rb") as source, mine.open("xb") as target:
        for block, kept in sorted(journal.blocks.items()):
            source.seek(block * journal.block_size)
            target.seek(block * journal.block_size)
            target.write(source.read(kept.filled))


def _why_left(part: Path) -> str | None:
    """Why it is left there and not gone on with."""
    if any(path.exists() and not os.access(path, os.R_OK) for path in (part, _beside(part))):
        return f"another account's part of it cannot be read, and it begins anew ({part}; chmod a+r)"
    if PART_JOURNAL.is_newer(next(_lines(_beside(part)), None)):
        return (
            f"a newer version of internlm-zoo has a part of it, and it begins anew ({part}; update to go on)"
        )
    return None
