"""How a checkpoint is split over files, what they are called, and the index that says which holds what.

Facts: `split_torch_state_dict_into_shards` of huggingface_hub and `save_pretrained` of transformers 5,
whose file names, grouping and index these reproduce.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.errors import IntegrityError, UsageError
from converters.formats.bytesource import ByteSource, opened
from converters.formats.jsontext import json_value
from converters.formats.placeholders import refuse_placeholder
from converters.formats.tensors import MAX_NAME, TensorLike, TensorSpec, nbytes

SAFETENSORS_INDEX = "model.safetensors.index.json"
TORCH_INDEX = "pytorch_model.bin.index.json"
SAFETENSORS_PATTERN = "model{suffix}.safetensors"
MAX_INDEX = 64 << 20
"""In bytes. DeepSeek-V3's, of 91,000 tensors, has 9 MB."""
MAX_FILES = 10_000
"""Far more than any checkpoint is cut into."""
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True)
class Shard:
    """One file of a checkpoint and the tensors it holds, in the model's order."""

    file: str
    tensors: tuple[TensorSpec, ...]


def parse_size(size: str | int) -> int:
    """Bytes of a size such as "5GB" (decimal units, as huggingface_hub counts). Raises UsageError."""
    if isinstance(size, int):
        number, unit = float(size), 1
    else:
        text, unit = size.strip(), UNITS.get(size.strip()[-2:].upper(), 0)
        try:
            number = float(text[:-2])
        except ValueError:
            number = 0.0
    if not unit or not math.isfinite(number) or number <= 0:
        raise UsageError(
            f"{size!r} is not a size", fix=f"write a number and one of {', '.join(UNITS)}, as in 5GB"
        )
    return int(number * unit)


def split(
    tensors: Iterable[TensorLike], max_shard_size: str | int, pattern: str = SAFETENSORS_PATTERN
) -> tuple[Shard, ...]:
    """Group tensors, in their order, into files of at most `max_shard_size` bytes of tensors.

    A tensor larger than that gets a file of its own. One file has a plain name, several are numbered.
    """
    limit = parse_size(max_shard_size)
    groups: list[list[TensorSpec]] = []
    current: list[TensorSpec] = []
    room = limit
    for tensor in tensors:
        spec = TensorSpec(tensor.name, tensor.dtype, tensor.shape)
        size = nbytes(spec.dtype, spec.shape)
        if size > limit:
            groups.append([spec])
            continue
        if size > room:
            groups.append(current)
            current, room = [], limit
        current.append(spec)
        room -= size
    groups += [current] if current else []
    return tuple(Shard(_file_name(pattern, n, len(groups)), tuple(group)) for n, group in enumerate(groups))


def _file_name(pattern: str, number: int, count: int) -> str:
    return pattern.format(suffix="" if count == 1 else f"-{number + 1:05d}-of-{count:05d}")


def index_json(shards: Sequence[Shard]) -> str:
    """The text of the index file: total sizes and the weight map, as save_pretrained writes it."""
    tensors = [tensor for shard in shards for tensor in shard.tensors]
    index = {
        "metadata": {
            "total_parameters": sum(math.prod(tensor.shape) for tensor in tensors),
            "total_size": sum(nbytes(tensor.dtype, tensor.shape) for tensor in tensors),
        },
        "weight_map": {tensor.name: shard.file for shard in shards for tensor in shard.tensors},
    }
    return json.dumps(index, indent=2, sort_keys=True) + "\n"


def read_index(source: ByteSource | str | os.PathLike[str]) -> Mapping[str, str]:
    """The weight map of an index file: tensor name -> file name beside it.

    Raises IntegrityError for anything but a map of names to plain file names.
    """
    with opened(source) as file:
        refuse_placeholder(file)
        if file.size > MAX_INDEX:
            raise IntegrityError("the index is larger than any checkpoint's", file.name)
        text = file.read(0, file.size)
    try:
        index = json_value(text, MAX_INDEX)
    except ValueError as error:
        raise IntegrityError(f"the index is not valid JSON: {error}", file.name, "fetch it again") from None
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not all(map(_is_file_name, weight_map.values())):
        raise IntegrityError("the index has no weight_map of tensor names to file names", file.name)
    if len(set(weight_map.values())) > MAX_FILES or any(len(name) > MAX_NAME for name in weight_map):
        raise IntegrityError(
            "the index names more files, or longer tensors, than any checkpoint has", file.name
        )
    return weight_map


def _is_file_name(value: object) -> bool:
    return (
        isinstance(value, str)
        and value not in ("", ".", "..")
        and Path(value).name == value
        and "\\" not in value
    )
