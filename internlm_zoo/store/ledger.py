"""`<home>/adopted.jsonl`: digests of files that others may write to, remembered by size, time and inode.

Such files lie in the caches of other tools, and in the store where a blob is a hard link to one of them. One
line per file, the last one counts. Lines are appended whole, so that processes need not wait for each other;
whatever is torn or lost is hashed again.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

_NAME = "adopted.jsonl"
_CHUNK = 1 << 20
# Two writes within one tick of the clock leave the same time: a file counts as at rest after this many ns.
_TICK = 1_000_000_000
_SPARE_LINES = 50


@dataclass(frozen=True)
class Stamp:
    """size in bytes, time of the last change in ns, inode number: what changes when a file does."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Raises OSError."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


@dataclass(frozen=True)
class Known:
    """The digests of a file as it was when it had this stamp. git_sha1: None where nobody asked for it."""

    stamp: Stamp
    sha256: str
    git_sha1: str | None = None


class Ledger:
    """Thread-safe. keep: whether what is hashed is written down, for later runs."""

    def __init__(self, home: Path, *, keep: bool = True) -> None:
        self._path = home / _NAME
        self._keep = keep
        self._lock = threading.Lock()
        self._entries: dict[str, Known] | None = None

    def watches(self, path: Path) -> bool:
        """Whether somebody else may write to a blob of the store, so that its size alone proves nothing."""
        return bool(path.stat().st_mode & stat.S_IWUSR) or self._entry(path) is not None

    def remembered(self, path: Path) -> Known | None:
        """What is known of a file as it is now, without reading it. Raises OSError."""
        known = self._entry(path)
        return known if known is not None and known.stamp == Stamp.of(path) else None

    def digests(
        self, path: Path, *, git: bool = False, fresh: bool = False, seen: Callable[[int], None] | None = None
    ) -> Known:
        """Of a file as it is now, hashed if it has to be. git: the git blob's sha1 as well. fresh: believe
        nothing. seen: told the size of each piece. Raises OSError."""
        known = None if fresh else self.remembered(path)
        if known is not None and (known.git_sha1 or not git):
            return known
        begun, stamp = time.time_ns(), Stamp.of(path)
        known = Known(stamp, *_hash(path, stamp.size if git else None, seen))
        if begun - stamp.mtime_ns > _TICK and Stamp.of(path) == stamp:
            self.remember(path, known)
        return known

    def remember(self, path: Path, known: Known) -> None:
        """Write it down. The file must have been at rest when it was hashed."""
        with self._lock:
            self._loaded()[str(path)] = known
            if self._keep:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(_line(str(path), known))

    def _entry(self, path: Path) -> Known | None:
        with self._lock:
            return self._loaded().get(str(path))

    def _loaded(self) -> dict[str, Known]:
        if self._entries is None:
            self._entries = self._read()
        return self._entries

    def _read(self) -> dict[str, Known]:
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return {}
        entries = dict(filter(None, map(_entry, lines)))
        if self._keep and len(lines) > 2 * len(entries) + _SPARE_LINES:
            self._rewrite(entries)
        return entries

    def _rewrite(self, entries: dict[str, Known]) -> None:
        draft = self._path.with_name(f"{_NAME}.{secrets.token_hex(4)}")
        draft.write_text("".join(_line(*entry) for entry in entries.items()), encoding="utf-8")
        draft.replace(self._path)


def _line(path: str, known: Known) -> str:
    facts = {"path": path, **asdict(known.stamp), "sha256": known.sha256, "git_sha1": known.git_sha1}
    return json.dumps(facts) + "\n"


def _entry(line: bytes) -> tuple[str, Known] | None:
    try:
        facts = json.loads(line)
        stamp = Stamp(int(facts["size"]), int(facts["mtime_ns"]), int(facts["inode"]))
        return str(facts["path"]), Known(stamp, str(facts["sha256"]), facts["git_sha1"])
    except (ValueError, KeyError, TypeError):  # torn: the file is hashed again
        return None


def _hash(path: Path, git_size: int | None, seen: Callable[[int], None] | None) -> tuple[str, str | None]:
    """sha256, and the sha1 of git's blob if its size is given."""
    sha256 = hashlib.sha256()
    git = hashlib.sha1(b"" if git_size is None else b"blob %d\0" % git_size, usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            sha256.update(chunk)
            if git_size is not None:
                git.update(chunk)
            if seen is not None:
                seen(len(chunk))
    return sha256.hexdigest(), None if git_size is None else git.hexdigest()
