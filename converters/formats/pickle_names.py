"""The names that a pickle of torch.save may hold, and what stands for each: never the thing that it names."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from converters.formats.tensors import ELEMENT_TYPES, MAX_DIMS, DType

MAX_SIZE = 1 << 63  # torch counts in 64 bits, with a sign


@dataclass(frozen=True)
class Storage:
    """One data/{key} entry, seen as `numel` elements of type `dtype`."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True)
class TensorRef:
    """A tensor as a view of a storage; offset and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Name:
    """A global of the pickle: a name, never the thing it names."""

    name: str
    dtype: str | None = None


class Malformed(Exception):
    """The pickle breaks its own rules."""


def is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < MAX_SIZE


def _is_sizes(value: object) -> bool:
    return type(value) is tuple and len(value) <= MAX_DIMS and all(is_size(item) for item in value)


def _empty_dict() -> dict[object, object]:
    return {}


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *others: Any) -> TensorRef:
    """others: requires_grad, hooks, and metadata, of which there may be none."""
    if type(storage) is not Storage or not is_size(offset) or not _is_sizes(shape) or not _is_sizes(strides):
        raise Malformed("a tensor is described by the wrong kinds of values")
    if len(shape) != len(strides) or len(others) not in (2, 3) or any(others[2:]):
        raise Malformed("a tensor is described by the wrong kinds of values")
    if math.prod(shape) > storage.numel:
        raise Malformed(f"a tensor of shape {list(shape)[:8]} repeats the elements of its storage")
    if (
        math.prod(shape)
        and offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) >= storage.numel
    ):
        raise Malformed(f"a tensor of shape {list(shape)[:8]} reaches beyond the end of its storage")
    return TensorRef(storage, offset, shape, strides)


def _rebuild_parameter(data: Any, grad: Any, hooks: Any) -> TensorRef:
    if type(data) is not TensorRef:
        raise Malformed("a parameter holds something that is not a tensor")
    return data


def _rebuild_size(sizes: Any) -> tuple[int, ...]:
    if not _is_sizes(sizes):
        raise Malformed("a torch.Size holds something that is not a size")
    return tuple(sizes)


ORDERED_DICT = Name("collections OrderedDict")
CONFIG = Name("internlm.core.context.parallel_context Config")
SIZE = Name("torch Size")
REBUILD_TENSOR = Name("torch._utils _rebuild_tensor_v2")
REBUILD_PARAMETER = Name("torch._utils _rebuild_parameter")

CALLS: dict[Name, Callable[..., object]] = {
    ORDERED_DICT: _empty_dict,
    CONFIG: _empty_dict,
    SIZE: _rebuild_size,
    REBUILD_TENSOR: _rebuild_tensor,
    REBUILD_PARAMETER: _rebuild_parameter,
}

GLOBALS: dict[str, Name | DType] = {
    **{known.name: known for known in CALLS},
    **{
        f"torch {row.storage}": Name(f"torch {row.storage}", row.code)
        for row in ELEMENT_TYPES.values()
        if row.storage
    },
    **{f"torch {row.torch}": DType(row.torch) for row in ELEMENT_TYPES.values()},
}
