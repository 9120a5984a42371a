"""The names that a pickle of torch.save may hold, and what stands for each: never the thing that it names."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from converters.formats.tensors import ELEMENT_TYPES, DType, is_size, is_sizes


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


def _empty_dict() -> dict[object, object]:
    return {}


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *others: Any) -> TensorRef:
    """others: requires_grad, hooks, and metadata, of which there may be none."""
    if type(storage) is not Storage or not is_size(offset):
        raise Malformed("a tensor is described by the wrong kinds of values")
    if not is_sizes(shape, tuple) or not is_sizes(strides, tuple):
        raise Malformed("a tensor is described by the wrong kinds of values")
    if len(shape) != len(strides) or len(others) not in (2, 3) or any(others[2:]):
        raise Malformed("a tensor is described by the wrong kinds of values")
    if math.prod(shape) > storage.numel:
        raise Malformed(f"a tensor of shape {list(shape)[:8]} repeats the elements of its storage")
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= storage.numel:
        raise Malformed(f"a tensor of shape {list(shape)[:8]} reaches beyond the end of its storage")
    return TensorRef(storage, offset, shape, strides)


def _rebuild_parameter(data: Any, grad: Any, hooks: Any) -> TensorRef:
    if type(data) is not TensorRef:
        raise Malformed("a parameter holds something that is not a tensor")
    return data


def _rebuild_size(sizes: Any) -> tuple[int, ...]:
    if not is_sizes(sizes, tuple):
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
