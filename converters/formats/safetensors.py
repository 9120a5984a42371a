"""safetensors files: where each tensor's bytes lie, and how to lay out new ones as the library does.

Format facts: the safetensors README ("Format") and its Rust reader's checks, safetensors/src/tensor.rs at
0.8: 8 bytes of header length, a JSON header, then tensors that cover the rest without holes or overlaps.
The writer orders tensors by element type, largest first, then by name, and pads the header to 8 bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from converters.errors import IntegrityError, UnsupportedError, UsageError
from converters.formats.bytesource import ByteSource, opened, read_alone
from converters.formats.jsontext import json_value
from converters.formats.placeholders import refuse_damaged, refuse_placeholder
from converters.formats.tensors import (
    ELEMENT_TYPES,
    FileLayout,
    Span,
    StoredTensor,
    TensorLike,
    contiguous_strides,
    is_name,
    is_sizes,
    nbytes,
)
from converters.values import shown

LENGTH = 8  # bytes of the number in front: how long the header is
MAX_HEADER = 32 << 20
"""In bytes. The library takes 100 MB; the largest header in use, all 91,000 tensors of DeepSeek-V3 in one
file, would have 14 MB. What is read of a header takes up to 30 times its bytes of memory."""
MAX_VALUES = 1_000_000
"""Commas and brackets in a header: 150,000 tensors have so many."""
METADATA = "__metadata__"
FORMAT = {"format": "pt"}  # from_pretrained refuses a file that does not say it
RANK = {code: rank for rank, code in enumerate(ELEMENT_TYPES)}


@dataclass(frozen=True)
class SafetensorsFile:
    """Tensors by name in the file's order, and the header's text metadata."""

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]


def read_index(source: ByteSource | str | os.PathLike[str]) -> SafetensorsFile:
    """Locate every tensor.

    Raises IntegrityError for a header that is damaged, hostile or does not cover the file exactly, and
    UnsupportedError for element types other than those of ELEMENT_TYPES.
    """
    with opened(source) as file:
        refuse_placeholder(file)
        where = file.name
        header, start = _read_header(file)
        metadata = _check_metadata(header.pop(METADATA, {}), where)
        tensors = [_locate(where, start, name, fields) for name, fields in header.items()]
        tensors.sort(key=lambda tensor: (tensor.offset, tensor.nbytes))
        _check_cover(tensors, start, file)
        return SafetensorsFile({tensor.name: tensor for tensor in tensors}, metadata)


def layout(tensors: Iterable[TensorLike], metadata: Mapping[str, str] = FORMAT) -> FileLayout:
    """A file holding these tensors, byte for byte where safetensors.serialize_file would put them.

    Raises UsageError for a name that is used twice or reserved.
    """
    # Widest elements first, as the library has it: so each tensor is aligned to its own.
    ordered = sorted(tensors, key=lambda tensor: (-RANK[tensor.dtype], tensor.name))
    header: dict[str, object] = {METADATA: dict(metadata)} if metadata else {}
    begins = [0, *accumulate(nbytes(tensor.dtype, tensor.shape) for tensor in ordered)]
    for tensor, offsets in zip(ordered, pairwise(begins), strict=True):
        if tensor.name in header or tensor.name == METADATA:
            raise UsageError("a tensor's name is used twice or reserved", tensor.name)
        header[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % LENGTH)
    start = LENGTH + len(text)
    return FileLayout(
        size=start + begins[-1],
        spans=tuple(
            Span(t.name, t.dtype, t.shape, start + at) for t, at in zip(ordered, begins, strict=False)
        ),
        fixed=((0, len(text).to_bytes(LENGTH, "little") + text),),
    )


def _read_header(source: ByteSource) -> tuple[dict[str, Any], int]:
    """The parsed header, and where the tensors' bytes start."""
    if source.size < LENGTH:
        refuse_damaged("the file is too short for a safetensors header", source.name)
    length = int.from_bytes(read_alone(source, 0, LENGTH), "little")
    if length > source.size - LENGTH:
        refuse_damaged(f"the safetensors header claims {length} bytes, more than there are", source.name)
    if length > MAX_HEADER:
        what = f"the safetensors header has {length:,} bytes, and that of a checkpoint {MAX_HEADER:,} at most"
        raise IntegrityError(what, source.name)
    text = read_alone(source, LENGTH, length)
    if not text.startswith(b"{"):
        refuse_damaged("the safetensors header does not start with '{'", source.name)
    try:
        header = json_value(text, MAX_HEADER, unique=True, values=MAX_VALUES)
    except ValueError as error:
        refuse_damaged(f"the safetensors header is not valid JSON: {error}", source.name)
    if not isinstance(header, dict):
        refuse_damaged("the safetensors header is not an object", source.name)
    return header, LENGTH + length


def _check_metadata(metadata: object, where: str) -> Mapping[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        refuse_damaged("the safetensors metadata maps text to something other than text", where)
    return metadata


def _locate(where: str, start: int, name: str, fields: object) -> StoredTensor:
    if not is_name(name):
        refuse_damaged(f"the name {shown(name)} is empty, or longer than that of any tensor", where)
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        refuse_damaged(f"the header describes {name!r} by the wrong fields", where)
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    sizes = is_sizes(shape, list) and is_sizes(offsets, list) and len(offsets) == 2
    if not isinstance(dtype, str) or not sizes:
        refuse_damaged(f"the header describes {name!r} by the wrong kinds of values", where)
    if dtype not in ELEMENT_TYPES:
        raise UnsupportedError(
            f"the tensor {name} has the element type {shown(dtype)}, which is not supported", where
        )
    tensor = StoredTensor(
        where, name, dtype, tuple(shape), start + offsets[0], contiguous_strides(tuple(shape))
    )
    if tensor.nbytes != offsets[1] - offsets[0]:
        refuse_damaged(
            f"{name!r} has {offsets[1] - offsets[0]} bytes where its shape needs {tensor.nbytes}", where
        )
    return tensor


def _check_cover(tensors: list[StoredTensor], start: int, source: ByteSource) -> None:
    """The tensors, in order of offset, cover start .. size once."""
    for tensor in tensors:
        if tensor.offset != start:
            kind = "overlap" if tensor.offset < start else "leave a hole"
            refuse_damaged(f"the tensors {kind} before {tensor.name!r}", source.name)
        start += tensor.nbytes
    if start != source.size:
        refuse_damaged(f"the tensors end at byte {start} of a file of {source.size}", source.name)
