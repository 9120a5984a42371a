"""Reads one file of a checkpoint's folder: a config, or the headers of weights; writes a config.

What is wrong with it is raised, or noted by whoever wants to go on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from converters.containers.container import StoredFile, Wrong
from converters.containers.names import RECORD
from converters.errors import IntegrityError, NotFoundError, UnsupportedError, ZooError
from converters.formats import safetensors, torchzip
from converters.formats.folder import Folder, read_whole
from converters.formats.jsontext import json_value
from converters.formats.placeholders import refuse_placeholder
from converters.saved import CONVERSION

T = TypeVar("T")

MAX_JSON = 64 << 20
"""Of a config or a tokenizer.json in bytes; the largest released one has 33 MB."""
AGAIN = "fetch it again"

# What is wrong with a checkpoint, and not with the way to it.
FAULTS: tuple[type[ZooError], ...] = (IntegrityError, NotFoundError, UnsupportedError)


def refuse(error: ZooError) -> None:
    """The `Wrong` of whoever cannot go on."""
    raise error


def attempt(wrong: Wrong, work: Callable[[], T], faults: tuple[type[ZooError], ...] = FAULTS) -> T | None:
    """What `work` returns; None if something is wrong with the checkpoint, of which `wrong` is told."""
    try:
        return work()
    except faults as error:
        wrong(error)
        return None


def read_json(folder: Folder, name: str) -> Mapping[str, Any]:
    """A small file that holds an object. Raises NotFoundError, and IntegrityError for anything else."""
    with closing(folder.open(name)) as file:
        refuse_placeholder(file)
    return json_object(read_whole(folder, name), folder.where(name))


def json_object(content: bytes, where: str) -> dict[str, Any]:
    """The object that a file holds. Raises IntegrityError for anything else."""
    try:
        value = json_value(content, MAX_JSON)
    except ValueError as error:
        raise IntegrityError(f"it is not valid JSON: {error}", where, AGAIN) from None
    if not isinstance(value, dict):
        raise IntegrityError("it is not a JSON object", where, AGAIN)
    return value


def read_record(folder: Folder) -> Mapping[str, Any]:
    """What a conversion wrote down beside its result; empty if none did. Raises what `read_json` raises, and
    UnsupportedError for what a later version wrote."""
    record = read_json(folder, RECORD) if RECORD in folder.names() else {}
    if CONVERSION.is_newer(record):
        raise CONVERSION.newer(folder.where(RECORD), "move it elsewhere: then what it says has to be given")
    return record


def read_weights(folder: Folder, wrong: Wrong, name: str) -> StoredFile:
    where = folder.where(name)
    with closing(folder.open(name)) as file:
        if name.endswith(".safetensors"):
            return StoredFile(name, where, safetensors.read_index(file).tensors)
        index = torchzip.read_index(file)
    for key in index.others:
        wrong(UnsupportedError(f"{key} is not a tensor", where))
    return StoredFile(name, where, index.tensors, index.under)


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """As transformers writes a config: two spaces, sorted keys."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
