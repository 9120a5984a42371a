"""The container of Hugging Face directories: safetensors files, or pickles, which are only read; a config.

Where a folder holds several sets, the order is that in which `from_pretrained` looks: one file before an
index, safetensors before pickles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from converters.containers.container import (
    Config,
    Container,
    Extras,
    FolderContents,
    Place,
    StoredFile,
    WeightFile,
    WeightSet,
    WeightSetChoice,
    Wrong,
)
from converters.containers.duplicates import once
from converters.containers.files import attempt, read_weights, refuse, write_json
from converters.containers.names import CONFIG
from converters.containers.shard_files import (
    INDEX,
    SHARD,
    Shards,
    by_headers,
    by_index,
    notes_on_nested,
    shard_groups,
)
from converters.errors import IntegrityError, NotFoundError
from converters.formats import safetensors, shards
from converters.formats.folder import Folder
from converters.formats.tensors import TensorSpec

_SUFFIXES = (("model", "safetensors"), ("pytorch_model", "bin"))


class SafetensorsShards(Container):
    def sets(self, names: Sequence[str]) -> Iterator[WeightSet]:
        taken: set[str] = set()
        for base, suffix in _SUFFIXES:
            single, index = f"{base}.{suffix}", f"{base}.{suffix}{INDEX}"
            if single in names:
                yield WeightSet(single, self, (single,))
            if index in names:
                files = tuple(_numbered(names, base, suffix))
                taken.update(files)
                yield WeightSet(index, self, files, indexed=True)
        for group in shard_groups(name for name in names if name not in taken):
            yield WeightSet(group[0], self, group, standard=_is_standard(group[0]))

    def read(self, folder: Folder, choice: WeightSetChoice, config: Config, wrong: Wrong) -> FolderContents:
        names = folder.names()
        if CONFIG not in names:
            wrong(NotFoundError(f"{CONFIG} is missing", folder.where(CONFIG), "fetch it"))
        found = _shards(folder, choice, wrong)
        if not (found.files or found.absent or found.wanted):
            wrong(NotFoundError("there are no weights", folder.name, "fetch them"))
        files, twice = once(folder, found.files, wrong)
        aside = choice.left_aside(names, [file.name for file in files])
        return FolderContents(
            folder,
            config() or {},
            CONFIG,
            {(0, 0): files},
            choice,
            notes=(*aside, *twice, *notes_on_nested(files)),
            configured=config() is not None,
            whole=len(found.files) == found.wanted and not found.absent,
            stale=found.stale,
            absent=found.absent,
        )

    def files(self, parts: Mapping[Place, Sequence[TensorSpec]], extras: Extras) -> tuple[WeightFile, ...]:
        (tensors,) = parts.values()
        split = shards.split(tensors, extras.max_shard_size)
        return tuple(WeightFile(part.file, safetensors.layout(part.tensors)) for part in split)

    def write_config(self, directory: Path, config: Mapping[str, Any], files: Sequence[WeightFile]) -> None:
        write_json(directory / CONFIG, config)
        if len(files) > 1:
            members = [shards.Shard(file.name, _specs(file)) for file in files]
            index = directory / shards.SAFETENSORS_INDEX
            index.write_text(shards.index_json(members), encoding="utf-8")


SAFETENSORS_SHARDS = SafetensorsShards("hf", CONFIG, CONFIG)


def _specs(file: WeightFile) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(span.name, span.dtype, span.shape) for span in file.layout.spans)


def _numbered(names: Sequence[str], base: str, suffix: str) -> Iterator[str]:
    return (n for n in names if (m := SHARD.fullmatch(n)) and (m["base"], m["suffix"]) == (base, suffix))


def _is_standard(shard: str) -> bool:
    match = SHARD.fullmatch(shard)
    return match is not None and (match["base"], match["suffix"]) in _SUFFIXES


def _shards(folder: Folder, choice: WeightSetChoice, wrong: Wrong) -> Shards:
    @cache
    def read(name: str) -> StoredFile | None:
        return attempt(wrong, partial(read_weights, folder, wrong, name))

    @cache
    def look(name: str) -> StoredFile | None:
        return attempt(lambda _: None, partial(read_weights, folder, refuse, name))

    taken = choice.taken
    if not taken.indexed:
        return by_headers(folder, taken.files, read)
    with closing(folder.open(taken.name)) as file:
        try:
            weight_map = shards.read_index(file)
        except IntegrityError as error:
            return replace(
                by_headers(folder, taken.files, read), stale=f"the index is no index: {error.what}"
            )
    suffix = taken.name.removesuffix(INDEX).rpartition(".")[2]
    spare = [one.name for one in choice.others if not one.standard and one.name.endswith(suffix)]
    return by_index(folder, weight_map, taken.files, spare, read, look)
