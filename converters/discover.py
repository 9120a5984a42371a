"""Which files of a directory hold a checkpoint: an original one's grid, a Hugging Face one's shards.

File names of the original format: InternLM/InternEvo c628a8c internlm/checkpoint/components.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.errors import IntegrityError, NotFoundError, UnsupportedError
from converters.formats import safetensors, shards, torchzip
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

_CELL = re.compile(r"model_tp(\d+)_pp(\d+)\.pt")
_UNSUPPORTED = {
    "weight parallelism (tensor mode isp)": re.compile(r"model_(tp\d+_)?wp\d+(_pp\d+)?.*\.pt"),
    "sharding by FSDP": re.compile(r"model_tp\d+_pp\d+_dp\d+\.pt"),
    "mixture of experts": re.compile(r"model_moe_layer\d+_expert\d+.*\.pt"),
}
_ANY_MODEL = re.compile(r"model_(?!config).*\.pt")
_MAX_CONFIG = 16 << 20

Place = tuple[int, int]


@dataclass(frozen=True)
class StoredFile:
    """A file of weights, by its headers. tensors: by stored name."""

    path: Path
    tensors: Mapping[str, StoredTensor]


@dataclass(frozen=True)
class Found:
    """What a directory holds. files: by (tensor-parallel rank, pipeline stage); all shards are of (0, 0)."""

    path: Path
    format: str
    config: Mapping[str, Any]
    config_file: str
    tp: int
    pp: int
    files: Mapping[Place, tuple[StoredFile, ...]]


def discover(path: Path) -> Found:
    """Read the config and all headers of a directory.

    Raises NotFoundError if there is no checkpoint in it, UnsupportedError for variants that are recognised
    and not supported, IntegrityError for files that are missing or damaged.
    """
    if not path.is_dir():
        raise NotFoundError("there is no such directory", path)
    names = sorted(entry.name for entry in path.iterdir())
    if any(_ANY_MODEL.fullmatch(name) for name in names):
        return _original(path, names)
    if CONFIG in names:
        return _huggingface(path, names)
    raise NotFoundError(
        f"it holds no checkpoint: neither {CONFIG} nor model_tp0_pp0.pt is there",
        path,
        "name a directory in original, hf or llama format",
    )


def _original(path: Path, names: list[str]) -> Found:
    for name in names:
        for variant, pattern in _UNSUPPORTED.items():
            if pattern.fullmatch(name):
                raise UnsupportedError(f"this checkpoint uses {variant}, which is not supported", path / name)
        if _ANY_MODEL.fullmatch(name) and not _CELL.fullmatch(name):
            raise UnsupportedError("this looks like weights, but no such file name is known", path / name)
    places = {_place(name): name for name in names if _CELL.fullmatch(name)}
    tp, pp = (max(place[n] for place in places) + 1 for n in (0, 1))
    for place in ((rank, stage) for stage in range(pp) for rank in range(tp)):
        if place not in places:
            raise IntegrityError(
                f"model_tp{place[0]}_pp{place[1]}.pt is missing: the other files are of a grid of "
                f"{tp} tensor-parallel ranks and {pp} pipeline stages",
                path,
                "fetch the missing file",
            )
    files = {place: (_read_torch(path / places[place]),) for place in sorted(places)}
    return Found(path, "original", _read_model_config(path), MODEL_CONFIG, tp, pp, files)


def _place(name: str) -> Place:
    match = _CELL.fullmatch(name)
    assert match is not None
    return int(match[1]), int(match[2])


def _read_model_config(path: Path) -> Mapping[str, Any]:
    """The config; empty if the file is not there, so that whoever needs a fact of it asks for it by name."""
    if not (path / MODEL_CONFIG).exists():
        return {}
    config = torchzip.read_object(path / MODEL_CONFIG)
    if not isinstance(config, dict):
        raise UnsupportedError(f"it holds a {type(config).__name__}, not a dict", path / MODEL_CONFIG)
    return config


def _read_torch(file: Path) -> StoredFile:
    index = torchzip.read_index(file)
    if index.others:
        raise UnsupportedError(f"{next(iter(index.others))} is not a tensor", file)
    return StoredFile(file, index.tensors)


def _huggingface(path: Path, names: list[str]) -> Found:
    config = _read_json(path / CONFIG)
    for index_name, single, reader in (
        (shards.SAFETENSORS_INDEX, "model.safetensors", _read_safetensors),
        (shards.TORCH_INDEX, "pytorch_model.bin", _read_torch),
    ):
        if index_name in names:
            weight_map = shards.read_index(path / index_name)
            files = tuple(reader(_present(path, name)) for name in sorted(set(weight_map.values())))
            _check_index(weight_map, files, path / index_name)
        elif single in names:
            files = (reader(path / single),)
        else:
            continue
        return Found(path, "hf", config, CONFIG, 1, 1, {(0, 0): files})
    raise NotFoundError(
        "it holds a config and no weights",
        path,
        "expected: model.safetensors or pytorch_model.bin, or an index",
    )


def _present(path: Path, name: str) -> Path:
    if not (path / name).exists():
        raise IntegrityError(f"the index names {name}, which is not there", path, "fetch the missing shard")
    return path / name


def _read_safetensors(file: Path) -> StoredFile:
    return StoredFile(file, safetensors.read_index(file).tensors)


def _check_index(weight_map: Mapping[str, str], files: tuple[StoredFile, ...], where: Path) -> None:
    held = {(name, file.path.name) for file in files for name in file.tensors}
    named = set(weight_map.items())
    for name, file in sorted(named - held):
        raise IntegrityError(f"the index says {name} is in {file}, and it is not", where)
    for name, file in sorted(held - named):
        raise IntegrityError(f"{file} holds {name}, which the index does not name", where)


def _read_json(file: Path) -> Mapping[str, Any]:
    if file.stat().st_size > _MAX_CONFIG:
        raise IntegrityError("it is larger than any config", file)
    try:
        config = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"it is not valid JSON: {error}", file, "fetch it again") from None
    if not isinstance(config, dict):
        raise IntegrityError("it is not a JSON object", file)
    return config
