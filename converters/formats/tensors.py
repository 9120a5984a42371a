"""The values every container speaks in: element types, where a tensor's bytes lie, how a file is laid out.

Element types go by their safetensors codes; the torch names and storage classes are those of
torch/storage.py. A reader gives `StoredTensor`s, a writer gives a `FileLayout`; neither moves tensor bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from converters.errors import UnsupportedError

Patch = tuple[int, bytes]
"""Bytes to be written at an absolute offset."""


MAX_NAME = 512
"""Characters in the name of a tensor. Wrappers of training frameworks within each other give some 200; what
is taken off a name piece by piece has to end."""
MAX_DIMS = 64
MAX_SIZE = 1 << 63  # torch counts in 64 bits, with a sign


@dataclass(frozen=True)
class ElementType:
    """One row of ELEMENT_TYPES. storage: the torch storage class it is pickled under, where it has one."""

    code: str
    itemsize: int
    torch: str
    storage: str | None = None


# Rows stand in the order by which the safetensors library sorts tensors (it writes the last rows first).
ELEMENT_TYPES = {
    row.code: row
    for row in (
        ElementType("BOOL", 1, "bool", "BoolStorage"),
        ElementType("U8", 1, "uint8", "ByteStorage"),
        ElementType("I8", 1, "int8", "CharStorage"),
        ElementType("F8_E5M2", 1, "float8_e5m2"),
        ElementType("F8_E4M3", 1, "float8_e4m3fn"),
        ElementType("I16", 2, "int16", "ShortStorage"),
        ElementType("U16", 2, "uint16"),
        ElementType("F16", 2, "float16", "HalfStorage"),
        ElementType("BF16", 2, "bfloat16", "BFloat16Storage"),
        ElementType("I32", 4, "int32", "IntStorage"),
        ElementType("U32", 4, "uint32"),
        ElementType("F32", 4, "float32", "FloatStorage"),
        ElementType("C64", 8, "complex64", "ComplexFloatStorage"),
        ElementType("F64", 8, "float64", "DoubleStorage"),
        ElementType("I64", 8, "int64", "LongStorage"),
        ElementType("U64", 8, "uint64"),
    )
}


@dataclass(frozen=True)
class DType:
    """A torch.dtype as a value, by its torch name: DType("bfloat16")."""

    name: str

    @property
    def code(self) -> str:
        """The safetensors code. Raises UnsupportedError for a name that has none."""
        for row in ELEMENT_TYPES.values():
            if row.torch == self.name:
                return row.code
        raise UnsupportedError(f"torch.{self.name} is not an element type that tensors are stored in")


class TensorLike(Protocol):
    """What a writer needs to know of a tensor."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class TensorSpec:
    """A tensor to be written: name, element type code, shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor inside a file.

    file: the name of its ByteSource (a path, or a URL). offset: absolute byte offset of element 0.
    strides: in elements; the bytes of a contiguous tensor are offset .. offset + nbytes.
    """

    file: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return nbytes(self.dtype, self.shape)

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        row_major = contiguous_strides(self.shape)
        return all(
            size <= 1 or mine == theirs
            for size, mine, theirs in zip(self.shape, self.strides, row_major, strict=True)
        )


@dataclass(frozen=True)
class Span:
    """Where a writer wants the bytes of one tensor: row-major, little-endian, at an absolute offset."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        return nbytes(self.dtype, self.shape)


def _nothing_to_finalize(crcs: Mapping[str, int]) -> tuple[Patch, ...]:
    return ()


@dataclass(frozen=True)
class FileLayout:
    """A file before its tensors are in it. One shape for all containers.

    size: of the finished file in bytes. spans: in file order. fixed: what can be written at once. encode:
    what bytes of a span are in the file, and where, if not themselves at their offset.
    finalize: given zlib.crc32 of every span by name, what remains to be written; needs_crc says whether it
    looks. Bytes covered by none of these are zero.
    """

    size: int
    spans: tuple[Span, ...]
    fixed: tuple[Patch, ...]
    finalize: Callable[[Mapping[str, int]], tuple[Patch, ...]] = _nothing_to_finalize
    needs_crc: bool = False
    encode: Callable[[int, memoryview], tuple[int, memoryview]] | None = None


def is_name(value: object) -> bool:
    """Whether a tensor may be called so."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME


def is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < MAX_SIZE


def is_sizes(value: object, kind: type[list[Any]] | type[tuple[Any, ...]]) -> bool:
    """Whether it is a list, or a tuple, of what may be sizes of dimensions."""
    return isinstance(value, kind) and len(value) <= MAX_DIMS and all(map(is_size, value))


def nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor without gaps. dtype: a code of ELEMENT_TYPES."""
    return ELEMENT_TYPES[dtype].itemsize * math.prod(shape)


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides in elements, as torch counts them (a size of 0 counts as 1)."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))
