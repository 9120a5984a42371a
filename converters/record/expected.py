"""Reads conversion.json: which files, sizes and digests it says there should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from converters import values
from converters.containers.files import read_record
from converters.containers.names import RECORD
from converters.errors import IntegrityError, NotFoundError
from converters.formats.folder import LocalFolder
from converters.sinks.digests import fingerprint_of_all
from converters.source.model_identity import ModelIdentity, identity_in

BLAKE3 = "blake3"
DIGESTS = "digests"


@dataclass(frozen=True)
class RecordedFile:
    size: int
    blake3: str | None


@dataclass(frozen=True)
class Expected:
    """weights: which set of them the conversion wrote, whatever else is there now. model: which one it is,
    where that is known."""

    files: Mapping[str, RecordedFile]
    tensors: Mapping[str, str]
    weights: str
    model: ModelIdentity | None = None

    @property
    def digested(self) -> bool:
        """Whether anything says what its weights should be."""
        return bool(self.tensors) or all(file.blake3 for file in self.files.values())


def expected(folder: LocalFolder) -> Expected:
    """What a record says should be there. Raises NotFoundError if there is none, IntegrityError for a damaged
    one."""
    if RECORD not in folder.names():
        raise NotFoundError(f"there is no {RECORD} in it", folder.name)
    return stated_in(folder)[1]


def stated_in(folder: LocalFolder) -> tuple[Mapping[str, Any], Expected]:
    """The record in a folder, and what it says should be there. Raises as `expected`."""
    record = read_record(folder)
    try:
        return record, _expected(record)
    except ValueError as error:
        what = f"it is not the record of a conversion: {error}"
        raise IntegrityError(what, folder.where(RECORD), "convert again") from None


def _expected(record: Mapping[str, Any]) -> Expected:
    target = _table(record, "target")
    weights = values.of("files", target.get("files"), _files_stated)
    others = values.of("other_files", target.get("other_files", []), _files_stated)
    digests = values.of(DIGESTS, target.get(DIGESTS, {}), values.fields)
    tensors = _table(_table(record, "fingerprint"), "tensors")
    if not weights:
        raise ValueError("it names no file of weights")
    model = identity_in(record)
    if tensors and model and model.fingerprint not in (None, fingerprint_of_all(tensors)):
        raise ValueError("the fingerprint of its model is not that of its tensors")
    return Expected(
        {name: _file(file, digests) for name, file in (*weights, *others)},
        {values.line(name): values.of(name, digest, values.line) for name, digest in tensors.items()},
        weights[0][0],
        model,
    )


def _table(fields: Mapping[str, Any], key: str) -> dict[str, Any]:
    return values.of(key, fields.get(key), values.fields)


def _files_stated(value: object) -> list[tuple[str, dict[str, Any]]]:
    """Name and fields of every file of a list."""
    files = [values.fields(file) for file in values.items(value)]
    return [(values.of("name", file.get("name"), _name), file) for file in files]


def _file(fields: Mapping[str, Any], digests: Mapping[str, Any]) -> RecordedFile:
    digest = digests.get(fields["name"], fields.get(BLAKE3))
    size = values.of("size", fields.get("size"), values.whole)
    return RecordedFile(size, None if digest is None else values.of("a digest", digest, values.line))


def _name(value: object) -> str:
    name = values.line(value)
    if name in ("", "..") or PurePath(name).name != name:
        raise ValueError("it is no name of a file")
    return name
