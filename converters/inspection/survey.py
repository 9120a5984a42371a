"""Reads all headers of a folder, and notes what is wrong with each file instead of stopping there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from converters import discover
from converters.discover import ANY_MODEL, CELL, UNSUPPORTED, StoredFile, place_of
from converters.errors import NotFoundError, ZooError
from converters.formats import safetensors, shards, torchzip
from converters.formats.bytesource import ByteSource
from converters.formats.folder import Folder
from converters.formats.impostors import refuse_impostor
from converters.formats.tensors import StoredTensor
from converters.formats.zip_read import root_of
from converters.inspection.finding import Finding, finding

_SHARD = re.compile(r"(model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)")


@dataclass(frozen=True)
class Survey:
    """format: original or hf, by the names of the files. files: those whose headers could be read."""

    format: str
    tp: int
    pp: int
    files: tuple[StoredFile, ...]
    findings: tuple[Finding, ...]


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
    cells = [name for name in names if CELL.fullmatch(name)]
    places = [place_of(name) for name in cells]
    tp, pp = (max((place[n] for place in places), default=0) + 1 for n in (0, 1))
    files, damaged = _read_all(folder, cells)
    findings = [
        *_unknown_names(folder, names),
        *(
            Finding(f"model_tp{rank}_pp{stage}.pt is missing from the grid of {tp} x {pp}", folder.name)
            for stage in range(pp)
            for rank in range(tp)
            if (rank, stage) not in places
        ),
        *damaged,
        *_misnamed(folder, files),
    ]
    if discover.MODEL_CONFIG not in names:
        findings.append(Finding(f"{discover.MODEL_CONFIG} is missing", folder.name, "fetch it"))
    return Survey("original", tp, pp, files, tuple(findings))


def _unknown_names(folder: Folder, names: Sequence[str]) -> Iterator[Finding]:
    for name in names:
        variants = [variant for variant, pattern in UNSUPPORTED.items() if pattern.fullmatch(name)]
        if variants:
            yield Finding(f"it uses {variants[0]}, which is not supported", folder.where(name))
        elif ANY_MODEL.fullmatch(name) and not CELL.fullmatch(name):
            yield Finding("it looks like weights, but no such file name is known", folder.where(name))


def _misnamed(folder: Folder, files: Sequence[StoredFile]) -> Iterator[Finding]:
    """torch names the folder inside a zip file after the file that it saves to."""
    for file in files:
        with closing(folder.open(file.name)) as source:
            saved_as = root_of(source) + ".pt"
        if CELL.fullmatch(saved_as) and saved_as != file.name:
            yield Finding(
                f"it was saved as {saved_as}", file.where, "it may have been renamed: fetch it again"
            )


def _huggingface(folder: Folder, names: Sequence[str]) -> Survey:
    findings = []
    if discover.CONFIG not in names:
        findings.append(Finding(f"{discover.CONFIG} is missing", folder.name, "fetch it"))
    index = next((name for name in (shards.SAFETENSORS_INDEX, shards.TORCH_INDEX) if name in names), None)
    held = [name for name in names if _SHARD.fullmatch(name)]
    preferred = [name for name in held if name.endswith(".safetensors")] or held
    weight_map, damaged_index = _read_index(folder, index)
    findings += damaged_index
    wanted = sorted(set(weight_map.values())) or preferred
    if index is None and len(wanted) > 1:
        findings.append(Finding("there are several shards and no index", folder.name, "fetch the index"))
    if not wanted:
        findings.append(Finding("there are no weights", folder.name, "fetch them"))
    findings += [
        Finding(f"the index names {name}, which is not there", folder.name, "fetch the missing shard")
        for name in wanted
        if name not in names
    ]
    files, damaged = _read_all(folder, [name for name in wanted if name in names])
    findings += damaged
    if weight_map:
        findings += _against_index(weight_map, files, folder.where(str(index)))
    return Survey("hf", 1, 1, files, tuple(findings))


def _read_index(folder: Folder, index: str | None) -> tuple[Mapping[str, str], list[Finding]]:
    if index is None:
        return {}, []
    try:
        with closing(folder.open(index)) as source:
            return shards.read_index(source), []
    except ZooError as error:
        return {}, [finding(error)]


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


def _read_all(folder: Folder, names: Sequence[str]) -> tuple[tuple[StoredFile, ...], list[Finding]]:
    files, findings = [], []
    for name in names:
        try:
            with closing(folder.open(name)) as source:
                files.append(StoredFile(name, folder.where(name), _headers(source, name)))
        except ZooError as error:
            findings.append(finding(error))
    return tuple(files), findings


def _headers(source: ByteSource, name: str) -> Mapping[str, StoredTensor]:
    refuse_impostor(source)
    read: Callable[[ByteSource], Mapping[str, StoredTensor]] = (
        _safetensors if name.endswith(".safetensors") else _torch
    )
    return read(source)


def _safetensors(source: ByteSource) -> Mapping[str, StoredTensor]:
    return safetensors.read_index(source).tensors


def _torch(source: ByteSource) -> Mapping[str, StoredTensor]:
    return torchzip.read_index(source).tensors
