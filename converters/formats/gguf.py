"""GGUF files: where each tensor's bytes lie, what the header says, and how to lay out new ones.

Format facts: ggml docs/gguf.md (version 3), gguf-py 0.19 constants.py and gguf_writer.py: magic, version,
counts, key-value pairs, tensor infos, then tensors at multiples of the alignment. Dimensions are innermost
first. Only little-endian files are known.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from converters.errors import IntegrityError, UnsupportedError
from converters.formats.bytesource import ByteSource, opened
from converters.formats.gguf_blocks import Blocks, encoder, is_quantised, stored_nbytes
from converters.formats.impostors import refuse_impostor
from converters.formats.tensors import (
    ELEMENT_TYPES,
    FileLayout,
    Span,
    StoredTensor,
    TensorLike,
    contiguous_strides,
    nbytes,
)

MAGIC, VERSION, VERSIONS = b"GGUF", 3, (2, 3)
ALIGNMENT_KEY, ALIGNMENT = "general.alignment", 32
TYPES = {0: "F32", 1: "F16", 28: "F64", 30: "BF16"}
NUMBERS = {code: number for number, code in TYPES.items()}
COMPUTED = ("F32", "F16", "BF16")
QUANTISED = {8: "Q8_0"}

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
# Keys whose numbers are float32 also where they are whole.
_FLOATS = ("layer_norm_rms_epsilon", "freq_base", "factor")
_LONGEST = 256 << 20
_CHUNK = 1 << 20


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
    blocks = Blocks.of([(one.tensor, one.quantised, start + one.offset) for one in members])
    return FileLayout(size, _spans(members, blocks.starts), ((0, head),), encode=encoder(blocks))


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
        Span(
            one.tensor.name,
            one.tensor.dtype,
            one.tensor.shape,
            offset,
            nbytes(one.tensor.dtype, one.tensor.shape),
        )
        for one, offset in zip(members, offsets, strict=True)
    )


def _aligned(size: int, to: int = ALIGNMENT) -> int:
    return -(-size // to) * to


def _info(member: _Member) -> bytes:
    tensor = member.tensor
    if tensor.dtype not in COMPUTED:
        raise UnsupportedError(
            f"llama.cpp does not compute with {tensor.name} in {ELEMENT_TYPES[tensor.dtype].torch}",
            "--dtype",
            "choose float32, float16 or bfloat16",
        )
    number = next(iter(QUANTISED)) if member.quantised else NUMBERS[tensor.dtype]
    dims = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape))
    return _text(tensor.name) + dims + struct.pack("<IQ", number, member.offset)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _packed(key: str, value: Any) -> bytes:
    kind = _kind(key, value)
    return _text(key) + struct.pack("<I", kind) + _value(kind, value)


def _kind(key: str, value: Any) -> int:
    if key.endswith(_FLOATS):
        return _FLOAT32
    for number, type_ in ((_BOOL, bool), (_UINT32, int), (_FLOAT32, float), (_STRING, str)):
        if isinstance(value, type_):
            return number
    return _ARRAY


def _value(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return _text(value)
    if kind == _ARRAY:
        return _array(value)
    return struct.pack(_SCALARS[kind], value)


def _array(values: Sequence[Any]) -> bytes:
    """Numbers of arrays are signed: those of token types and the like."""
    kind = _kind("", values[0]) if len(values) else _STRING
    kind = _INT32 if kind == _UINT32 else kind
    head = struct.pack("<IQ", kind, len(values))
    if kind == _STRING:
        return head + b"".join(map(_text, values))
    return head + np.array(values, np.dtype(_SCALARS[kind][1:]).newbyteorder("<")).tobytes()


def read_index(source: ByteSource | str | os.PathLike[str]) -> GgufFile:
    """Locate every tensor.

    Raises IntegrityError for a header that is damaged, hostile or reaches beyond the file, and
    UnsupportedError for tensors of quantised types.
    """
    with opened(source) as file:
        refuse_impostor(file)
        header = _Header(file)
        if header.take(4) != MAGIC:
            _bad("the file does not start as a GGUF file does", file.name)
        (version,) = header.unpack("<I")
        if version not in VERSIONS:
            raise UnsupportedError(f"GGUF version {version} is not known", file.name)
        count, pairs = header.unpack("<QQ")
        metadata = dict(header.pair() for _ in range(header.sane(pairs)))
        infos = [header.info() for _ in range(header.sane(count))]
        start = _aligned(header.at, int(metadata.get(ALIGNMENT_KEY, ALIGNMENT)) or ALIGNMENT)
        tensors = [_located(file, start, *info) for info in infos]
        if len({tensor.name for tensor in tensors}) != len(tensors):
            _bad("the header names a tensor twice", file.name)
        return GgufFile({tensor.name: tensor for tensor in tensors}, metadata)


def _bad(what: str, where: str) -> NoReturn:
    raise IntegrityError(what, where, "the file is truncated or damaged: fetch it again")


def _located(
    file: ByteSource, start: int, name: str, shape: tuple[int, ...], number: int, offset: int
) -> StoredTensor:
    if number not in TYPES:
        kind = QUANTISED.get(number, f"the ggml type {number}")
        raise UnsupportedError(
            f"the tensor {name} is quantised ({kind}), and cannot be read as weights",
            file.name,
            "take the release in hf format that it was made from",
        )
    tensor = StoredTensor(file.name, name, TYPES[number], shape, start + offset, contiguous_strides(shape))
    if tensor.offset + tensor.nbytes > file.size:
        _bad(f"the tensor {name} reaches beyond the file", file.name)
    return tensor


class _Header:
    """A cursor over the first bytes of a file, read as they are wanted."""

    def __init__(self, file: ByteSource) -> None:
        self._file, self._held, self.at = file, bytearray(), 0

    def take(self, length: int) -> bytes:
        end = self.at + length
        if end > min(self._file.size, _LONGEST):
            _bad("the GGUF header reaches beyond the file, or is larger than any", self._file.name)
        while len(self._held) < end:
            more = min(max(_CHUNK, end - len(self._held)), self._file.size - len(self._held))
            self._held += self._file.read(len(self._held), more)
        data = bytes(self._held[self.at : end])
        self.at = end
        return data

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def sane(self, count: int) -> int:
        """A number of things of at least one byte each."""
        if count > self._file.size:
            _bad(f"the GGUF header counts {count} entries, more than the file has bytes", self._file.name)
        return count

    def text(self) -> str:
        (length,) = self.unpack("<Q")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            _bad("a text in the GGUF header is not UTF-8", self._file.name)

    def pair(self) -> tuple[str, Any]:
        key = self.text()
        (kind,) = self.unpack("<I")
        return key, self._value(kind)

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            kind, count = self.unpack("<IQ")
            return (
                self._numbers(kind, count)
                if kind in _SCALARS
                else [self._value(kind) for _ in range(self.sane(count))]
            )
        if kind not in _SCALARS:
            _bad(f"the GGUF header has a value of the unknown kind {kind}", self._file.name)
        (value,) = self.unpack(_SCALARS[kind])
        return _shortest(value) if kind == _FLOAT32 else value

    def _numbers(self, kind: int, count: int) -> list[Any]:
        form = _SCALARS[kind][1:]
        return list(struct.unpack(f"<{count}{form}", self.take(count * struct.calcsize(form))))

    def info(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.text()
        (dims,) = self.unpack("<I")
        if dims > 4:
            _bad(f"the tensor {name} has {dims} dimensions", self._file.name)
        *shape, number, offset = self.unpack(f"<{dims}QIQ")
        return name, tuple(reversed(shape)), number, offset


def _shortest(value: float) -> float:
    """The number that was meant: 1e-05, and not what float32 makes of it."""
    return float(str(np.float32(value)))
