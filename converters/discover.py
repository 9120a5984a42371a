"""Which files of a directory hold a checkpoint: an original one's grid, a Hugging Face one's shards.

File names of the original format: InternLM/InternEvo c628a8c internlm/checkpoint/components.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from converters.errors import IntegrityError, NotFoundError, UnsupportedError
from converters.formats import safetensors, shards, torchzip
from converters.formats.folder import Folder, read_whole
from converters.formats.impostors import refuse_impostor
from converters.formats.tensors import StoredTensor

MODEL_CONFIG = "model_config.pt"
CONFIG = "config.json"
TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)

CELL = re.compile(r"model_tp(\d+)_pp(\d+)\.pt")
UNSUPPORTED = {
    "weight parallelism (tensor mode isp)": re.compile(r"model_(tp\d+_)?wp\d+(_pp\d+)?.*\.pt"),
    "sharding by FSDP": re.compile(r"model_tp\d+_pp\d+_dp\d+\.pt"),
    "mixture of experts": re.compile(r"model_moe_layer\d+_expert\d+.*\.pt"),
}
ANY_MODEL = re.compile(r"model_(?!config).*\.pt")

Place = tuple[int, int]


@dataclass(frozen=True)
class StoredFile:
    """A file of weights, by its headers. where: what errors call it. tensors: by stored name."""

    name: str
    where: str
    tensors: Mapping[str, StoredTensor]


@dataclass(frozen=True)
class Found:
    """What a folder holds. files: by (tensor-parallel rank, pipeline stage); all shards are of (0, 0).
    notes: what a person should know of how it was read."""

    folder: Folder
    format: str
    config: Mapping[str, Any]
    config_file: str
    tp: int
    pp: int
    files: Mapping[Place, tuple[StoredFile, ...]]
    notes: tuple[str, ...] = ()


def discover(folder: Folder) -> Found:
    """Read the config and all headers of a folder.

    Raises NotFoundError if there is no checkpoint in it, UnsupportedError for variants that are recognised
    and not supported, IntegrityError for files that are missing or damaged.
    """
    names = folder.names()
    if any(ANY_MODEL.fullmatch(name) for name in names):
        return _original(folder, names)
    if CONFIG in names:
        return _huggingface(folder, names)
    raise NotFoundError(
        f"it holds no checkpoint: neither {CONFIG} nor model_tp0_pp0.pt is there",
        folder.name,
        "name a directory in original, hf or llama format",
    )


def _original(folder: Folder, names: Sequence[str]) -> Found:
    for name in names:
        for variant, pattern in UNSUPPORTED.items():
            if pattern.fullmatch(name):
                raise UnsupportedError(
                    f"this checkpoint uses {variant}, which is not supported", folder.where(name)
                )
        if ANY_MODEL.fullmatch(name) and not CELL.fullmatch(name):
            raise UnsupportedError(
                "this looks like weights, but no such file name is known", folder.where(name)
            )
    places = {place_of(name): name for name in names if CELL.fullmatch(name)}
    tp, pp = (max(place[n] for place in places) + 1 for n in (0, 1))
    for place in ((rank, stage) for stage in range(pp) for rank in range(tp)):
        if place not in places:
            raise IntegrityError(
                f"model_tp{place[0]}_pp{place[1]}.pt is missing: the other files are of a grid of "
                f"{tp} tensor-parallel ranks and {pp} pipeline stages",
                folder.name,
                "fetch the missing file",
            )
    files = {place: (_read_torch(folder, places[place]),) for place in sorted(places)}
    return Found(folder, "original", read_model_config(folder, names), MODEL_CONFIG, tp, pp, files)


def place_of(name: str) -> Place:
    """Rank and stage that a file's name says, the name being one of CELL."""
    match = CELL.fullmatch(name)
    assert match is not None
    return int(match[1]), int(match[2])


def read_model_config(folder: Folder, names: Sequence[str]) -> Mapping[str, Any]:
    """The config; empty if the file is not there, so that whoever needs a fact of it asks for it by name.

    Raises IntegrityError and UnsupportedError for a file that holds no config.
    """
    if MODEL_CONFIG not in names:
        return {}
    with closing(folder.open(MODEL_CONFIG)) as file:
        config = torchzip.read_object(file)
    if not isinstance(config, dict):
        raise UnsupportedError(f"it holds a {type(config).__name__}, not a dict", folder.where(MODEL_CONFIG))
    return config


def _read_torch(folder: Folder, name: str) -> StoredFile:
    with closing(folder.open(name)) as file:
        index = torchzip.read_index(file)
    if index.others:
        raise UnsupportedError(f"{next(iter(index.others))} is not a tensor", folder.where(name))
    return StoredFile(name, folder.where(name), index.tensors)


def _huggingface(folder: Folder, names: Sequence[str]) -> Found:
    config = read_json(folder, CONFIG)
    for index_name, single, reader in (
        (shards.SAFETENSORS_INDEX, "model.safetensors", _read_safetensors),
        (shards.TORCH_INDEX, "pytorch_model.bin", _read_torch),
    ):
        if index_name in names:
            with closing(folder.open(index_name)) as file:
                weight_map = shards.read_index(file)
            files = tuple(
                reader(folder, _present(folder, name, names)) for name in sorted(set(weight_map.values()))
            )
            _check_index(weight_map, files, folder.where(index_name))
        elif single in names:
            files = (reader(folder, single),)
        else:
            continue
        return Found(folder, "hf", config, CONFIG, 1, 1, {(0, 0): files})
    raise NotFoundError(
        "it holds a config and no weights",
        folder.name,
        "expected: model.safetensors or pytorch_model.bin, or an index",
    )


def _present(folder: Folder, name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise IntegrityError(
            f"the index names {name}, which is not there", folder.name, "fetch the missing shard"
        )
    return name


def _read_safetensors(folder: Folder, name: str) -> StoredFile:
    with closing(folder.open(name)) as file:
        return StoredFile(name, folder.where(name), safetensors.read_index(file).tensors)


def _check_index(weight_map: Mapping[str, str], files: tuple[StoredFile, ...], where: str) -> None:
    held = {(name, file.name) for file in files for name in file.tensors}
    named = set(weight_map.items())
    for name, file in sorted(named - held):
        raise IntegrityError(f"the index says {name} is in {file}, and it is not", where)
    for name, file in sorted(held - named):
        raise IntegrityError(f"{file} holds {name}, which the index does not name", where)


def read_json(folder: Folder, name: str) -> Mapping[str, Any]:
    """A small file that holds an object. Raises NotFoundError, and IntegrityError for anything else."""
    with closing(folder.open(name)) as file:
        refuse_impostor(file)
    try:
        config = json.loads(read_whole(folder, name))
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"it is not valid JSON: {error}", folder.where(name), "fetch it again") from None
    if not isinstance(config, dict):
        raise IntegrityError("it is not a JSON object", folder.where(name))
    return config
