"""Arithmetic on rows of weights, without torch: bfloat16 is the upper half of a float32."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from converters.errors import UnsupportedError
from converters.formats.tensors import ELEMENT_TYPES

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

# torch.nn.functional.normalize
_EPSILON = 1e-12
# Elements converted at once: what a processor's cache holds.
_CHUNK = 1 << 16
_EXPONENT = {"BF16": 0x7F80, "F16": 0x7C00}


def to_float32(data: Bytes, dtype: str) -> Floats:
    """Values of BF16, F16 or F32 bytes."""
    if dtype == "BF16":
        return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return data.view({"F16": "<f2", "F32": "<f4"}[dtype]).astype(np.float32)


def from_float32(values: Floats, dtype: str) -> Bytes:
    """Bytes of the nearest values of a dtype, ties to even; NaN stays NaN, what is too large becomes
    infinite."""
    if dtype != "BF16":
        with np.errstate(over="ignore"):
            return values.astype({"F16": "<f2", "F32": "<f4"}[dtype]).view(np.uint8)
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded).astype("<u2").view(np.uint8)


def convert_to(data: Bytes, stored: str, wanted: str, name: str) -> Bytes:
    """The nearest values of another dtype. Raises UnsupportedError naming a value too large for it."""
    width, new_width = (ELEMENT_TYPES[dtype].itemsize for dtype in (stored, wanted))
    count = len(data) // width
    out = np.empty(count * new_width, np.uint8)
    for start in range(0, count, _CHUNK):
        values = to_float32(data[start * width : (start + _CHUNK) * width], stored)
        part = out[start * new_width : (start + _CHUNK) * new_width]
        part[:] = from_float32(values, wanted)
        if not _all_finite(part, wanted):
            _refuse_overflow(values, part, wanted, name)
    return out


def _all_finite(data: Bytes, dtype: str) -> bool:
    exponent = np.uint32(0x7F800000) if dtype == "F32" else np.uint16(_EXPONENT[dtype])
    return not bool(((data.view(exponent.dtype) & exponent) == exponent).any())


def _refuse_overflow(values: Floats, converted: Bytes, dtype: str, name: str) -> None:
    lost = np.isinf(to_float32(converted, dtype)) & np.isfinite(values)
    if lost.any():
        raise UnsupportedError(
            f"{name} holds {values[lost][0]:g}, more than {dtype} can hold",
            "dtype",
            "choose a dtype of greater range",
        )


def round_to(values: Floats, dtype: str) -> Floats:
    return to_float32(from_float32(values, dtype).reshape(-1), dtype).reshape(values.shape)


def normalise_rows(data: Bytes, dtype: str, columns: int) -> Bytes:
    """Every row divided by its Euclidean length, in the steps and roundings of torch's normalize in that
    dtype.
    """
    rows = to_float32(data, dtype).reshape(-1, columns)
    lengths = np.sqrt(np.square(rows, dtype=np.float32).sum(axis=1, keepdims=True, dtype=np.float32))
    lengths = np.maximum(round_to(lengths, dtype), np.float32(_EPSILON))
    return from_float32(rows / lengths, dtype).reshape(-1)
