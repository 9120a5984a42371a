"""The header of a GGUF file, value by value, within limits of bytes, values and depth.

Format facts: as in gguf.py.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from converters.formats.bytesource import ByteSource
from converters.formats.placeholders import refuse_damaged
from converters.formats.tensors import is_name
from converters.values import shown

SCALARS = {
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
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9  # of gguf_metadata_value_type
MAX_HEADER = 64 << 20
"""In bytes. That of a model with a vocabulary of 256,000 and its merges has 16 MB."""
MAX_VALUES = 4_000_000
"""In the arrays of a header: the texts, scores and types of 1,000,000 tokens."""
MAX_ENTRIES = 100_000
"""Key-value pairs, or tensors. llama.cpp holds the experts of a layer in one tensor: 2,000 are in a file."""
_NESTED = 2
_CHUNK = 1 << 20


class Header:
    """A cursor over the first bytes of a file, read as they are wanted."""

    def __init__(self, file: ByteSource) -> None:
        self._file, self._held, self.at, self._values = file, bytearray(), 0, 0

    def take(self, length: int) -> bytes:
        end = self.at + length
        if end > min(self._file.size, MAX_HEADER):
            refuse_damaged("the GGUF header reaches beyond the file, or is larger than any", self._file.name)
        while len(self._held) < end:
            more = min(max(_CHUNK, end - len(self._held)), self._file.size - len(self._held))
            self._held += self._file.read(len(self._held), more)
        data = bytes(memoryview(self._held)[self.at : end])
        self.at = end
        return data

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def sane(self, count: int) -> int:
        """A number of pairs or tensors that may be."""
        if count > MAX_ENTRIES:
            refuse_damaged(f"the GGUF header counts {count} entries, more than any has", self._file.name)
        return count

    def _counted(self, count: int) -> int:
        """As many values of an array, and all before it, as there may be."""
        self._values += count + 1
        if self._values > MAX_VALUES:
            refuse_damaged(f"the GGUF header has more than {MAX_VALUES} values", self._file.name)
        return count

    def text(self) -> str:
        (length,) = self.unpack("<Q")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            refuse_damaged("a text in the GGUF header is not UTF-8", self._file.name)

    def pair(self) -> tuple[str, Any]:
        key = self.text()
        (kind,) = self.unpack("<I")
        return key, self._value(kind)

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            kind, count = self.unpack("<IQ")
            if depth == _NESTED:
                refuse_damaged("the GGUF header nests its arrays without end", self._file.name)
            if kind in SCALARS:
                return self._numbers(kind, self._counted(count))
            return [self._value(kind, depth + 1) for _ in range(self._counted(count))]
        if kind not in SCALARS:
            refuse_damaged(f"the GGUF header has a value of the unknown kind {kind}", self._file.name)
        (value,) = self.unpack(SCALARS[kind])
        return _shortest(value) if kind == FLOAT32 else value

    def _numbers(self, kind: int, count: int) -> list[Any]:
        form = SCALARS[kind][1:]
        return list(struct.unpack(f"<{count}{form}", self.take(count * struct.calcsize(form))))

    def info(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.text()
        (dims,) = self.unpack("<I")
        if not is_name(name) or dims > 4:
            refuse_damaged(f"the tensor {shown(name)} has {dims} dimensions, or no name", self._file.name)
        *shape, number, offset = self.unpack(f"<{dims}QIQ")
        return name, tuple(reversed(shape)), number, offset


def _shortest(value: float) -> float:
    """The number that was meant: 1e-05, and not what float32 makes of it."""
    return float(str(np.float32(value)))
