"""Reads config, index and all headers of a folder, and notes what is wrong with each file instead of stopping
there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from converters import discover
from converters.discover import ANY_MODEL, CELL, UNSUPPORTED, Found, Place, StoredFile, place_of
from converters.errors import NotFoundError
from converters.formats import safetensors, shards, torchzip
from converters.formats.folder import Folder
from converters.formats.zip_read import ends_with_directory
from converters.inspection.finding import Finding, noting

_SHARD = re.compile(r"(model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)")


@dataclass(frozen=True)
class Survey:
    """found: what could be read. configured: whether that is so of the config. whole: whether it is so of
    every file of weights that should be there. findings: why it is not."""

    found: Found
    configured: bool
    whole: bool
    findings: tuple[Finding, ...]

    @property
    def files(self) -> tuple[StoredFile, ...]:
        return tuple(file for files in self.found.files.values() for file in files)


def survey(folder: Folder) -> Survey:
    """Raises NotFoundError if nothing in it looks like a checkpoint."""
    names = folder.names()
    if any(ANY_MODEL.fullmatch(name) for name in names):
        return _original(folder, names)
    if discover.CONFIG in names or any(_SHARD.fullmatch(name) for name in names):
        return _huggingface(folder, names)
    raise NotFoundError(
        f"it holds no checkpoint: neither {discover.CONFIG} nor weights are there",
        folder.name,
        "name a directory in original, hf or llama format",
    )


def _original(folder: Folder, names: Sequence[str]) -> Survey:
    findings = list(_unknown_names(folder, names))
    config = _config(findings, folder, discover.MODEL_CONFIG)
    cells = {place_of(name): name for name in names if CELL.fullmatch(name)}
    tp, pp = (max((place[n] for place in cells), default=0) + 1 for n in (0, 1))
    holes = [(rank, stage) for stage in range(pp) for rank in range(tp) if (rank, stage) not in cells]
    findings += [
        Finding(
            f"model_tp{rank}_pp{stage}.pt is missing from the grid of {tp} x {pp}",
            folder.name,
            "fetch the missing file",
        )
        for rank, stage in holes
    ]
    files = {place: _read(findings, folder, cells[place]) for place in sorted(cells)}
    return Survey(
        Found(folder, "original", config or {}, discover.MODEL_CONFIG, tp, pp, _by_place(files)),
        config is not None,
        bool(files) and not holes and None not in files.values(),
        tuple(findings),
    )


def _by_place(files: Mapping[Place, StoredFile | None]) -> Mapping[Place, tuple[StoredFile, ...]]:
    return {place: (file,) for place, file in files.items() if file is not None}


def _unknown_names(folder: Folder, names: Sequence[str]) -> Iterator[Finding]:
    for name in names:
        variants = [variant for variant, pattern in UNSUPPORTED.items() if pattern.fullmatch(name)]
        if variants:
            yield Finding(f"it uses {variants[0]}, which is not supported", folder.where(name))
        elif ANY_MODEL.fullmatch(name) and not CELL.fullmatch(name):
            yield Finding("it looks like weights, but no such file name is known", folder.where(name))


def _huggingface(folder: Folder, names: Sequence[str]) -> Survey:
    findings: list[Finding] = []
    config = _config(findings, folder, discover.CONFIG)
    index = next((name for name in (shards.SAFETENSORS_INDEX, shards.TORCH_INDEX) if name in names), None)
    weight_map = _weight_map(findings, folder, index) if index else {}
    wanted = sorted(set(weight_map.values())) or _shards(names)
    if not index and len(wanted) > 1:
        findings.append(Finding("there are several shards and no index", folder.name, "fetch the index"))
    if not wanted:
        findings.append(Finding("there are no weights", folder.name, "fetch them"))
    findings += [
        Finding(f"the index names {name}, which is not there", folder.name, "fetch the missing shard")
        for name in wanted
        if name not in names
    ]
    read = [_read(findings, folder, name) for name in wanted if name in names]
    files = tuple(file for file in read if file is not None)
    if index and weight_map:
        findings += _against_index(weight_map, files, folder.where(index))
        kind = index.removesuffix(".index.json").rpartition(".")[2]
        findings += [
            Finding("it holds weights, and the index does not name it", folder.where(name), "remove it")
            for name in names
            if _SHARD.fullmatch(name) and name.endswith(kind) and name not in wanted
        ]
    return Survey(
        Found(folder, "hf", config or {}, discover.CONFIG, 1, 1, {(0, 0): files}),
        config is not None,
        len(files) == len(wanted) > 0,
        tuple(findings),
    )


def _shards(names: Sequence[str]) -> list[str]:
    """safetensors files, else pickled ones."""
    held = [name for name in names if _SHARD.fullmatch(name)]
    return [name for name in held if name.endswith(".safetensors")] or held


def _config(findings: list[Finding], folder: Folder, name: str) -> Mapping[str, Any] | None:
    names = folder.names()
    if name not in names:
        findings.append(Finding(f"{name} is missing", folder.where(name), "fetch it"))
        return None
    if name == discover.MODEL_CONFIG:
        return noting(findings, partial(discover.read_model_config, folder, names))
    return noting(findings, partial(discover.read_json, folder, name))


def _weight_map(findings: list[Finding], folder: Folder, index: str) -> Mapping[str, str]:
    def read() -> Mapping[str, str]:
        with closing(folder.open(index)) as source:
            return shards.read_index(source)

    return noting(findings, read) or {}


def _against_index(
    weight_map: Mapping[str, str], files: Sequence[StoredFile], where: str
) -> Iterator[Finding]:
    readable = {file.name for file in files}
    held = {(name, file.name) for file in files for name in file.tensors}
    for name, file in sorted(set(weight_map.items()) - held):
        if file in readable:
            yield Finding(f"the index says {name} is in {file}, and it is not", where)
    for name, file in sorted(held - set(weight_map.items())):
        yield Finding(f"{file} holds {name}, which the index does not name", where)


def _read(findings: list[Finding], folder: Folder, name: str) -> StoredFile | None:
    read = _safetensors if name.endswith(".safetensors") else _torch
    return noting(findings, partial(read, findings, folder, name))


def _safetensors(findings: list[Finding], folder: Folder, name: str) -> StoredFile:
    with closing(folder.open(name)) as source:
        return StoredFile(name, folder.where(name), safetensors.read_index(source).tensors)


def _torch(findings: list[Finding], folder: Folder, name: str) -> StoredFile:
    where = folder.where(name)
    with closing(folder.open(name)) as source:
        state = torchzip.read_index(source)
        if not ends_with_directory(source):
            findings.append(Finding("more bytes follow the end of its directory", where, "fetch it again"))
    findings += [Finding(f"{key} is not a tensor", where) for key in state.others]
    return StoredFile(name, where, state.tensors)
