"""`<home>/adopted.jsonl`: digests of files that others may write to, remembered by size, times and inode.

Such files lie in the caches of other tools, and in the store where a blob is a hard link to one of them. One
line per file, the last one counts; a file of the store is named from its home on, so that a store that was
moved, or is reached another way, knows its own. Lines are appended whole, so that processes need not wait for
each other; whatever is torn or lost, cannot be read, or is of an older version, is hashed again. Lines of a
later version stay; a file of which no line is ours is left alone.
"""

from __future__ import annotations

import json
import logging
import secrets
import stat
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from converters.formats.access import regular
from converters.formats.jsontext import json_value
from converters.saved import HASH_CACHE
from converters.system.filesystem import write_whole
from internlm_zoo.files import Digests
from internlm_zoo.hashing import hash_file

_LOG = logging.getLogger(__name__)
_CHUNK = 1 << 20
# Two writes within one tick of the clock leave the same time: a file counts as at rest after this many ns.
_TICK = 1_000_000_000
_SPARE_LINES = 50  # beyond twice those that count, before it is written anew
# Bytes of one line, which has a path and two digests; and of all.
_LONGEST, _MOST = 16 << 10, 256 << 20
_BEGINNINGS = (b'{"schema": ', b'{"path": ')
_LEFT = "a newer version of internlm-zoo remembers digests in %s; they stay, and files are hashed again"
_FOREIGN = "%s is none of internlm-zoo's: move it elsewhere, and what is hashed can be remembered there"


@dataclass(frozen=True)
class Stamp:
    """size in bytes, times of the last change of its bytes and of its inode in ns, inode number: what changes
    when a file does. The second time, which nobody can set, tells of an edit whose first was set back."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Raises OSError."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def is_but_linked(self, then: Stamp) -> bool:
        """Whether nothing but names, or the mode, came and went since."""
        return replace(self, ctime_ns=then.ctime_ns) == then


@dataclass(frozen=True)
class KnownDigests:
    """The digests of a file as it was when it had this stamp: sha256, and others that somebody asked for."""

    stamp: Stamp
    digests: Digests

    @property
    def sha256(self) -> str:
        return str(self.digests.sha256)


class HashCache:
    """Thread-safe. keep: whether what is hashed is written down, for later runs. fresh: believe nothing that
    an earlier run wrote down."""

    def __init__(self, home: Path, *, keep: bool = True, fresh: bool = False) -> None:
        self._home = home
        self._path = home / HASH_CACHE.file
        self._keep = keep
        self._fresh = fresh
        self._lock = threading.Lock()
        self._entries: dict[str, KnownDigests] | None = None

    def watches(self, path: Path) -> bool:
        """Whether somebody else may write to a file of the store, so that its size alone proves nothing: it
        can be written to, has another name, or came from elsewhere. Raises OSError."""
        status = path.stat()
        return bool(status.st_mode & stat.S_IWUSR) or status.st_nlink > 1 or self._entry(path) is not None

    def remembered(self, path: Path) -> KnownDigests | None:
        """What is known of a file as it is now, without reading it. Raises OSError."""
        known = self._entry(path)
        return known if known is not None and known.stamp == Stamp.of(path) else None

    def digests(
        self,
        path: Path,
        algorithms: Collection[str] = ("sha256",),
        on_bytes: Callable[[int], None] | None = None,
    ) -> KnownDigests:
        """Of a file as it is now, hashed if it has to be. algorithms, on_bytes: see `hash_file`. Raises
        OSError."""
        known = self.remembered(path)
        if known is not None and all(getattr(known.digests, name) for name in algorithms):
            return known
        begun, stamp = time.time_ns(), Stamp.of(path)
        known = KnownDigests(stamp, hash_file(path, algorithms, on_bytes))
        if begun - stamp.mtime_ns > _TICK and Stamp.of(path) == stamp:
            self.remember(path, known)
        return known

    def remember(self, path: Path, known: KnownDigests) -> None:
        """Write it down. The file must have been at rest when it was hashed."""
        with self._lock:
            self._loaded()[self._name(path)] = known
            if self._keep:
                self._append(_line(self._name(path), known))

    def _append(self, line: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError:  # a store that is read-only, or full: the file is hashed again another time
            self._keep = False

    def _name(self, path: Path) -> str:
        """What a file is called here."""
        return path.relative_to(self._home).as_posix() if path.is_relative_to(self._home) else str(path)

    def _entry(self, path: Path) -> KnownDigests | None:
        with self._lock:
            return self._loaded().get(self._name(path))

    def _loaded(self) -> dict[str, KnownDigests]:
        if self._entries is None:
            self._entries = {} if self._fresh else self._read()
        return self._entries

    def _read(self) -> dict[str, KnownDigests]:
        try:
            with open(self._path, "rb", opener=regular) as file:
                lines = file.read(_MOST).splitlines()
        except FileNotFoundError:
            return {}
        except OSError:  # what cannot be read takes no lines either
            self._keep = False
            return {}
        documents = list(map(_document, lines))
        if lines and not any(map(_is_ours, lines, documents)):
            _LOG.warning(_FOREIGN, self._path)
            self._keep = False
            return {}
        entries = dict(filter(None, map(_entry, documents)))
        newer = [line for line, it in zip(lines, documents, strict=True) if HASH_CACHE.is_newer(it)]
        if newer:
            _LOG.warning(_LEFT, self._path)
        if self._keep and len(lines) > 2 * len(entries) + len(newer) + _SPARE_LINES:
            self._rewrite(entries, newer)
        return entries

    def _rewrite(self, entries: dict[str, KnownDigests], newer: list[bytes]) -> None:
        draft = self._path.with_name(f"{HASH_CACHE.file}.{secrets.token_hex(4)}")
        ours = [_line(*entry).encode() for entry in entries.items()]
        with suppress(OSError):  # it stays as long as it is
            write_whole(self._path, b"".join([*(line + b"\n" for line in newer), *ours]), draft)


def _line(path: str, known: KnownDigests) -> str:
    facts = {"path": path, **asdict(known.stamp), **known.digests._asdict()}
    return json.dumps(HASH_CACHE.marked(facts)) + "\n"


def _document(line: bytes) -> Any:
    """None for what is torn."""
    try:
        return json_value(line, _LONGEST)
    except ValueError:
        return None


def _is_ours(line: bytes, document: Any) -> bool:
    if document is None:
        return line.startswith(_BEGINNINGS)
    return HASH_CACHE.is_newer(document) or (HASH_CACHE.reads(document) and "path" in document)


def _entry(facts: Any) -> tuple[str, KnownDigests] | None:
    if not HASH_CACHE.reads(facts):
        return None
    try:
        stamp = Stamp(*(int(facts[field.name]) for field in fields(Stamp)))
        digests = Digests(*map(facts.get, Digests._fields))
        if digests.sha256 is None or not digests.are_sound:
            return None
        return str(facts["path"]), KnownDigests(stamp, digests)
    except (ValueError, KeyError, TypeError):  # of a version that knew less
        return None
