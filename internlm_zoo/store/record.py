"""`.internlm-zoo/release.json`: what a folder holds, written when its files are checked and in place.

Every folder that `download` makes has one, in the store or elsewhere; `verify`, `cache list` and loading
read it. One that is damaged, or of a newer version, costs its own release and no other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote

from pydantic import TypeAdapter

from converters.formats.access import NO_FILE, NOTHING_THERE, regular
from converters.locking import held
from converters.saved import METADATA, RELEASE
from converters.system.filesystem import write_whole
from internlm_zoo.errors import DiskError, IntegrityError, UnsupportedError
from internlm_zoo.fs.ownership import free_name, sweep
from internlm_zoo.registry import Model
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.registry.release import QUANTISED
from internlm_zoo.versions import MOST, read_document

NAME, _DRAFT = RELEASE.file, "record"


@dataclass(frozen=True)
class Record:
    """model: registry name. release: its `files` are those that are here. total: how many the whole release
    has. checked: of files whose bytes were checked as they came, the time of their last change (ns). kind: of
    the model. fingerprint: of its weights as released, where the registry knows it."""

    model: str
    release: LockedRelease
    total: int
    checked: Mapping[str, int] = field(default_factory=dict)
    kind: str | None = None
    fingerprint: str | None = None

    @classmethod
    def of(
        cls, model: Model, release: LockedRelease, total: int, checked: Mapping[str, int] | None = None
    ) -> Record:
        """fingerprint: None where the weights are quantised, which are others."""
        known = None if release.format in QUANTISED else model.fingerprint
        return cls(model.name, release, total, checked or {}, model.kind, known)

    @property
    def whole(self) -> bool:
        return len(self.release.files) == self.total


# What `read_record` raises.
UNREADABLE = (IntegrityError, UnsupportedError, DiskError)


def read_record(folder: Path) -> Record | None:
    """None if the folder was not made by `download`, or not finished. Raises IntegrityError for a damaged
    record, UnsupportedError for one of a newer version, DiskError for one that cannot be read."""
    path = folder / METADATA / NAME
    text = record_text(path, _damaged(path))
    if text is None:
        return None
    otherwise = (
        "use another INTERNLM_ZOO_HOME or `local_dir`; "
        f"internlm-zoo cache rm {quote(str(folder))} removes the release from the store"
    )
    return read_document(text, RELEASE, _RECORD, _damaged(path), otherwise)


def record_text(path: Path, damaged: IntegrityError) -> bytes | None:
    """None where there is none. damaged: raised for what is no file of such a size. Raises DiskError for one
    that cannot be read."""
    try:
        with open(path, "rb", opener=regular) as file:
            text = file.read(MOST + 1)
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return None
        if error.errno in NO_FILE:
            raise damaged from error
        what = f"it cannot be read: {error.strerror}"
        raise DiskError(what, path, "let this account read it, or use another INTERNLM_ZOO_HOME") from error
    if len(text) > MOST:
        raise damaged
    return text


def intact_record(folder: Path) -> Record | None:
    """The same, and None for a damaged one: whoever asks writes it anew."""
    try:
        return read_record(folder)
    except IntegrityError:
        return None


def _damaged(path: Path) -> IntegrityError:
    folder = path.parent.parent
    return IntegrityError(
        "the record of the download is damaged",
        path,
        "download it again, which writes the record anew (into a `local_dir`: with `force=True`); or remove "
        f"the release from the store: internlm-zoo cache rm {quote(str(folder))}",
    )


def write_record(folder: Path, record: Record) -> None:
    """Replace the record in one step. Nobody else writes it now: see `_guard`."""
    path = folder / METADATA / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, _DRAFT)
    text = json.dumps(RELEASE.marked(_RECORD.dump_python(record, mode="json")), ensure_ascii=False, indent=1)
    if path.is_dir():
        path.rmdir()
    write_whole(path, text.encode(), path.with_name(free_name(_DRAFT)))


def replace_record(folder: Path, record: Record) -> None:
    """Write it, whatever the folder held before."""
    with held(_guard(folder)):
        write_record(folder, record)


def extend_record(folder: Path, record: Record) -> None:
    """Write it with what the folder held before; what it says of a file replaces what was said."""
    if is_recorded(folder, record):
        return
    with held(_guard(folder)):
        before = intact_record(folder)
        write_record(folder, record if before is None else _joined(before, record))


def is_recorded(folder: Path, record: Record) -> bool:
    """Whether the folder's record has all of this already."""
    before = intact_record(folder)
    return before is not None and _joined(before, record) == before


def _joined(before: Record, record: Record) -> Record:
    files = {file.path: file for file in (*before.release.files, *record.release.files)}
    release = replace(record.release, files=tuple(files[path] for path in sorted(files)))
    return replace(record, release=release, checked={**before.checked, **record.checked})


def _guard(folder: Path) -> Path:
    """Held by whoever writes the record."""
    return folder / METADATA / f"{NAME}.guard"


def verified_digests(folder: Path) -> Mapping[str, str]:
    """sha256 of the files that were checked when they came into the folder and that nobody wrote to since: of
    the same size and time of change, in an inode that is no younger than the record."""
    record = intact_record(folder)
    if record is None:
        return {}
    written = (folder / METADATA / NAME).stat().st_mtime_ns
    return {
        file.path: file.sha256
        for file in record.release.files
        if file.sha256 and is_untouched(folder / file.path, file.size, record.checked.get(file.path), written)
    }


def is_untouched(path: Path, size: int | None, mtime_ns: int | None, written: int) -> bool:
    """Whether nobody wrote to it since a record was written (ns) in which it has this size and time of
    change."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # it is gone, or no name of a file
        return False
    return (status.st_size, status.st_mtime_ns) == (size, mtime_ns) and status.st_ctime_ns <= written


_RECORD = TypeAdapter(Record)
