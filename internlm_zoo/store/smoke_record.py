"""`.internlm-zoo/smoke.json`: what the last smoke test of a folder said, and of which files.

It is of the files as they were then: by size, time of change and whether their inodes are older than the
record, so that nobody has to read the weights to know. One that is damaged, or of a newer version, costs
what it said and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from converters.containers.names import RECORD
from converters.formats.access import reading
from converters.formats.folder import LocalFolder
from converters.locking import held
from converters.saved import METADATA, SMOKE
from converters.source.added_files import interfering
from converters.system.filesystem import write_whole, writing
from internlm_zoo.errors import AccessError, IntegrityError
from internlm_zoo.fs.ownership import free_name, sweep
from internlm_zoo.store.layout import check_metadata
from internlm_zoo.store.record import is_untouched, record_text
from internlm_zoo.versions import read_document

Outcome = Literal["passed", "failed", "unjudged"]
_DRAFT = "smoke"


@dataclass(frozen=True)
class TriedFile:
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class RecordedCheck:
    name: str
    outcome: Outcome


@dataclass(frozen=True)
class SmokeRecord:
    """model: registry name or directory name. when: UTC, ISO 8601. tool: version of internlm-zoo. files: what
    was loaded, by name in the folder. fingerprint: of the weights, where a record beside them has it. given,
    weights: as it was asked for them."""

    model: str
    outcome: Outcome
    sentence: str
    checks: tuple[RecordedCheck, ...]
    when: str
    tool: str
    files: Mapping[str, TriedFile]
    fingerprint: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None


_RECORD = TypeAdapter(SmokeRecord)


def read_smoke(folder: Path) -> SmokeRecord | None:
    """None if there is none. Raises IntegrityError for a damaged one, UnsupportedError for one of a newer
    version, DiskError for one that cannot be read."""
    path = folder / METADATA / SMOKE.file
    damaged = IntegrityError(f"{SMOKE.what} is damaged", path, "run `internlm-zoo smoke` again")
    text = record_text(path, damaged)
    if text is None:
        return None
    return read_document(text, SMOKE, _RECORD, damaged, "remove it, and run `internlm-zoo smoke` again")


def write_smoke(folder: Path, record: SmokeRecord) -> None:
    """In the place of what is there, in one step. Raises UnsupportedError where that is of a newer version,
    and what `writing` raises for a place that takes nothing."""
    check_metadata(folder)
    path = folder / METADATA / SMOKE.file
    text = json.dumps(SMOKE.marked(_RECORD.dump_python(record, mode="json")), ensure_ascii=False, indent=1)
    with writing(folder), held(path.with_name(f"{SMOKE.file}.guard")):
        _spare_newer(folder)
        sweep(path.parent, _DRAFT)
        write_whole(path, text.encode(), path.with_name(free_name(_DRAFT)))


def _spare_newer(folder: Path) -> None:
    try:
        read_smoke(folder)
    except IntegrityError:
        return  # it is written anew


def states_of(folder: Path, weights: Collection[str]) -> Mapping[str, TriedFile]:
    """Of the files that decide what a model does. weights: names of those that hold them. Raises
    NotFoundError for one that is gone."""
    return {name: _state(folder / name) for name in _deciding(folder, weights)}


def is_current(folder: Path, record: SmokeRecord) -> bool:
    """Whether these files are in the folder still, and no others that are loaded beside or instead."""
    try:
        written = (folder / METADATA / SMOKE.file).stat().st_mtime_ns
        added = _deciding(folder, ()) - record.files.keys()
    except (OSError, AccessError):
        return False
    return not added and all(
        is_untouched(folder / name, state.size, state.mtime_ns, written)
        for name, state in record.files.items()
    )


def _deciding(folder: Path, weights: Collection[str]) -> set[str]:
    names = LocalFolder(folder).names()
    return {*weights, *(name for name, _ in interfering(names)), *({RECORD} & {*names})}


def _state(path: Path) -> TriedFile:
    with reading(path):
        status = path.stat()
    return TriedFile(status.st_size, status.st_mtime_ns)
