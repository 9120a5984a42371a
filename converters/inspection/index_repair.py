"""The index that the headers of whole weights call for, written beside them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.containers.container import FolderContents
from converters.containers.discover import discover
from converters.errors import UsageError
from converters.formats import shards
from converters.formats.folder import Folder, LocalFolder
from converters.formats.tensors import TensorSpec
from converters.source.checkpoint import open_checkpoint
from converters.system.filesystem import flush


@dataclass(frozen=True)
class RepairedIndex:
    """index: the file that was written. kept: where the one that was there before is now, if there was one.
    files, tensors: how many it names."""

    index: str
    kept: str | None
    files: int
    tensors: int


def fix_index(
    folder: Folder,
    given: Mapping[str, Any] | None = None,
    known: Mapping[str, Any] | None = None,
    weights: str | None = None,
) -> RepairedIndex | None:
    """Write a right index where one is wrong or missing; None if nothing is. The old one is kept.

    Arguments as for `open_checkpoint`. Raises UsageError for a folder that is not on disk; what
    `open_checkpoint` raises for weights that are not whole, and then nothing is written.
    """
    if not isinstance(folder, LocalFolder):
        raise UsageError("an index can be written into a directory on disk only", folder.name)
    folder = LocalFolder(folder.path)  # which nobody reads on with: a file of it is replaced
    open_checkpoint(folder, given, known, weights)
    found = discover(folder, weights)
    if found.stale is None:
        return None
    members = _members(found)
    safetensors = members[0].file.endswith(".safetensors")
    index = folder.path / (shards.SAFETENSORS_INDEX if safetensors else shards.TORCH_INDEX)
    kept = _replace(index, shards.index_json(members))
    return RepairedIndex(index.name, kept, len(members), sum(len(member.tensors) for member in members))


def _members(found: FolderContents) -> list[shards.Shard]:
    return [
        shards.Shard(file.name, tuple(TensorSpec(name, t.dtype, t.shape) for name, t in file.tensors.items()))
        for file in found.weight_files
    ]


def _replace(index: Path, text: str) -> str | None:
    """The new text appears whole and in one step; the old file gets a name that was free."""
    draft = index.with_name(f".{index.name}.draft")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            flush(file.fileno())
        kept = _keep(index) if os.path.lexists(index) else None
        draft.replace(index)
    finally:
        draft.unlink(missing_ok=True)
    return kept


def _keep(index: Path) -> str:
    """A copy of it under the first free name; index.json.bak, then .bak2 and so on."""
    names = (f"{index.name}.bak{number if number > 1 else ''}" for number in itertools.count(1))
    for name in names:
        try:
            with index.with_name(name).open("xb") as copy:
                copy.write(index.read_bytes())
            return name
        except FileExistsError:
            continue
    raise AssertionError("there is always a free name")
