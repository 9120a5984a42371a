"""`.internlm-zoo/release.json`: what a folder holds, written when its files are checked and in place.

Every folder that `download` makes has one, in the store or elsewhere; `verify`, `cache list` and loading
read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from converters.formats.access import refusal
from converters.holding import held
from internlm_zoo.errors import IntegrityError
from internlm_zoo.ownership import free_name, sweep
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.store.layout import BOOKS

_NAME, _DRAFT = "release.json", "record"


@dataclass(frozen=True)
class Record:
    """model: registry name. release: its `files` are those that are here. total: how many the whole release
    has. checked: of files whose bytes were checked as they came, the time of their last change (ns)."""

    model: str
    release: LockedRelease
    total: int
    checked: Mapping[str, int] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return len(self.release.files) == self.total


def read_record(folder: Path) -> Record | None:
    """None if the folder was not made by `download`, or not finished. Raises IntegrityError for a damaged
    record, AccessError for one that cannot be read."""
    path = folder / BOOKS / _NAME
    try:
        return _RECORD.validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise refusal(path, error) from error
    except ValidationError as error:
        raise IntegrityError(
            "the record of the download is damaged",
            path,
            "move this one file elsewhere and download again",
        ) from error


def write_record(folder: Path, record: Record) -> None:
    """Replace the record in one step. Nobody else writes it now: see `_alone`."""
    path = folder / BOOKS / _NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, _DRAFT)
    draft = path.with_name(free_name(_DRAFT))
    draft.write_text(json.dumps(asdict(record), ensure_ascii=False, indent=1), encoding="utf-8")
    draft.replace(path)


def replace_record(folder: Path, record: Record) -> None:
    """Write it, whatever the folder held before."""
    with _alone(folder):
        write_record(folder, record)


def extend_record(folder: Path, record: Record) -> None:
    """Write it with what the folder held before; what it says of a file replaces what was said."""
    if says(folder, record):
        return
    with _alone(folder):
        before = read_record(folder)
        write_record(folder, record if before is None else _joined(before, record))


def says(folder: Path, record: Record) -> bool:
    """Whether the folder's record has all of this already."""
    before = read_record(folder)
    return before is not None and _joined(before, record) == before


def _joined(before: Record, record: Record) -> Record:
    files = {file.path: file for file in (*before.release.files, *record.release.files)}
    release = replace(record.release, files=tuple(files[path] for path in sorted(files)))
    return replace(record, release=release, checked={**before.checked, **record.checked})


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else writes the record meanwhile."""
    with held(folder / BOOKS / f"{_NAME}.guard"):
        yield


def verified_digests(folder: Path) -> Mapping[str, str]:
    """sha256 of the files that were checked when they came into the folder and that nobody wrote to since, by
    size and time of change."""
    record = read_record(folder)
    if record is None:
        return {}
    return {
        file.path: file.sha256
        for file in record.release.files
        if file.sha256 and _stamp(folder / file.path) == (file.size, record.checked.get(file.path))
    }


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of change of a file; None if there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


_RECORD = TypeAdapter(Record)
