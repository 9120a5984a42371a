"""GGUF files: where each tensor's bytes lie, what the header says, and how to lay out new ones.

Format facts: ggml docs/gguf.md (version 3), gguf-py 0.19 constants.py and gguf_writer.py: magic, version,
counts, key-value pairs, tensor infos, then tensors at multiples of the alignment. Dimensions are innermost
first. Only little-endian files are known.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from converters.errors import UnsupportedError
from converters.formats.bytesource import ByteSource, opened
from converters.formats.gguf_blocks import QuantisedBlocks, check_quantiser, is_quantised, stored_nbytes
from converters.formats.gguf_read import ARRAY, BOOL, FLOAT32, INT32, SCALARS, STRING, UINT32, Header
from converters.formats.placeholders import refuse_damaged, refuse_placeholder
from converters.formats.tensors import (
    ELEMENT_TYPES,
    FileLayout,
    Span,
    StoredTensor,
    TensorLike,
    contiguous_strides,
)
from converters.values import shown

T = TypeVar("T")

MAGIC, VERSION, VERSIONS = b"GGUF", 3, (2, 3)  # what 3 added is big-endian files
ALIGNMENT_KEY, ALIGNMENT = "general.alignment", 32
TYPES = {0: "F32", 1: "F16", 28: "F64", 30: "BF16"}  # of ggml_type, as is QUANTISED
NUMBERS = {code: number for number, code in TYPES.items()}
COMPUTED = ("F32", "F16", "BF16")
QUANTISED = {8: "Q8_0"}

# Keys whose numbers are float32 also where they are whole.
_FLOATS = ("layer_norm_rms_epsilon", "freq_base", "factor")
MAX_ALIGNMENT = 1 << 20


@dataclass(frozen=True)
class GgufFile:
    """Tensors by name in the file's order. metadata: arrays as lists."""

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, Any]


def layout(
    tensors: Iterable[TensorLike], metadata: Mapping[str, Any], *, quantise: bool = False
) -> FileLayout:
    """A file holding these tensors in their order.

    metadata: text, numbers, booleans and lists of one of them; None is left out. quantise: matrices that come
    as F32 are stored as Q8_0 where their rows are whole blocks, and what is written to a span is F32 still.
    """
    kept = {key: value for key, value in metadata.items() if value is not None}
    members = _placed(tensors, quantise)
    head = _head(members, kept)
    start = _aligned(len(head))
    size = start + (members[-1].end if members else 0)
    if not quantise:
        return FileLayout(size, _spans(members, [start + one.offset for one in members]), ((0, head),))
    check_quantiser()
    blocks = QuantisedBlocks.of([(one.tensor, one.quantised, start + one.offset) for one in members])
    return FileLayout(size, _spans(members, blocks.starts), ((0, head),), encode=blocks.encode)


@dataclass(frozen=True)
class _Member:
    """offset: from where the tensors start. end: where the next may."""

    tensor: TensorLike
    quantised: bool
    offset: int

    @property
    def end(self) -> int:
        return self.offset + _aligned(stored_nbytes(self.tensor, self.quantised))


def _placed(tensors: Iterable[TensorLike], quantise: bool) -> list[_Member]:
    members: list[_Member] = []
    for tensor in tensors:
        offset = members[-1].end if members else 0
        members.append(_Member(tensor, quantise and is_quantised(tensor), offset))
    return members


def _head(members: Sequence[_Member], metadata: Mapping[str, Any]) -> bytes:
    counts = struct.pack("<IQQ", VERSION, len(members), len(metadata))
    pairs = (_packed(key, value) for key, value in metadata.items())
    return b"".join([MAGIC, counts, *pairs, *map(_info, members)])


def _spans(members: Sequence[_Member], offsets: Sequence[int]) -> tuple[Span, ...]:
    return tuple(
        Span(one.tensor.name, one.tensor.dtype, one.tensor.shape, offset)
        for one, offset in zip(members, offsets, strict=True)
    )


def _aligned(size: int, to: int = ALIGNMENT) -> int:
    return -(-size // to) * to


def _info(member: _Member) -> bytes:
    tensor = member.tensor
    if tensor.dtype not in COMPUTED:
        what = f"llama.cpp does not compute with {tensor.name} in {ELEMENT_TYPES[tensor.dtype].torch}"
        raise UnsupportedError(what, "`dtype`", "choose float32, float16 or bfloat16")
    number = next(iter(QUANTISED)) if member.quantised else NUMBERS[tensor.dtype]
    dims = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape))
    return _text(tensor.name) + dims + struct.pack("<IQ", number, member.offset)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _packed(key: str, value: Any) -> bytes:
    kind = _kind(key, value)
    data = struct.pack(SCALARS[kind], value) if kind in SCALARS else _WRITERS[kind](value)
    return _text(key) + struct.pack("<I", kind) + data


def _kind(key: str, value: Any) -> int:
    if key.endswith(_FLOATS):
        return FLOAT32
    for number, type_ in ((BOOL, bool), (UINT32, int), (FLOAT32, float), (STRING, str)):
        if isinstance(value, type_):
            return number
    return ARRAY


def _array(values: Sequence[Any]) -> bytes:
    """Numbers of arrays are signed: those of token types and the like."""
    kind = _kind("", values[0]) if len(values) else STRING
    kind = INT32 if kind == UINT32 else kind
    head = struct.pack("<IQ", kind, len(values))
    if kind == STRING:
        return head + b"".join(map(_text, values))
    return head + np.array(values, np.dtype(SCALARS[kind][1:]).newbyteorder("<")).tobytes()


_WRITERS: Mapping[int, Callable[[Any], bytes]] = {STRING: _text, ARRAY: _array}


def read_index(source: ByteSource | str | os.PathLike[str]) -> GgufFile:
    """Locate every tensor.

    Raises IntegrityError for a header that is damaged, hostile or reaches beyond the file, and
    UnsupportedError for tensors of quantised types.
    """
    with opened(source) as file:
        refuse_placeholder(file)
        header = Header(file)
        if header.take(4) != MAGIC:
            refuse_damaged("the file does not start as a GGUF file does", file.name)
        (version,) = header.unpack("<I")
        if version not in VERSIONS:
            raise UnsupportedError(f"GGUF version {version} is not known", file.name)
        count, pairs = header.unpack("<QQ")
        metadata = _once([header.pair() for _ in range(header.sane(pairs))], file.name)
        infos = [header.info() for _ in range(header.sane(count))]
        start = _aligned(header.at, _alignment(metadata, file.name))
        tensors = [_located(file, start, *info) for info in infos]
        _check_apart(tensors, file.name)
        return GgufFile(_once([(tensor.name, tensor) for tensor in tensors], file.name), metadata)


def _once(pairs: Sequence[tuple[str, T]], where: str) -> dict[str, T]:
    known = dict(pairs)
    if len(known) != len(pairs):
        refuse_damaged("the header names a key or a tensor twice", where)
    return known


def _alignment(metadata: Mapping[str, Any], where: str) -> int:
    stated = metadata.get(ALIGNMENT_KEY, ALIGNMENT)
    if type(stated) is not int or not 0 < stated <= MAX_ALIGNMENT or stated & (stated - 1):
        refuse_damaged(
            f"{ALIGNMENT_KEY} is {shown(stated)}, and no power of two up to {MAX_ALIGNMENT}", where
        )
    return stated


def _check_apart(tensors: Iterable[StoredTensor], where: str) -> None:
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.nbytes)):
        if tensor.offset < end:
            refuse_damaged(f"the tensors overlap before {tensor.name!r}", where)
        end = tensor.offset + tensor.nbytes


def _located(
    file: ByteSource, start: int, name: str, shape: tuple[int, ...], number: int, offset: int
) -> StoredTensor:
    if number not in TYPES:
        kind = QUANTISED.get(number, f"the ggml type {number}")
        what = f"the tensor {name} is quantised ({kind}), and cannot be read as weights"
        raise UnsupportedError(what, file.name, "take the release in hf format that it was made from")
    tensor = StoredTensor(file.name, name, TYPES[number], shape, start + offset, contiguous_strides(shape))
    if tensor.offset + tensor.nbytes > file.size:
        refuse_damaged(f"the tensor {name} reaches beyond the file", file.name)
    return tensor
