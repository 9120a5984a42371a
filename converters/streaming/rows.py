"""Arithmetic on rows of weights, without torch: bfloat16 is the upper half of a float32."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from converters.errors import UnsupportedError
from converters.formats.tensors import ELEMENT_TYPES

Floats = npt.NDArray[np.float32 | np.float64]
Bytes = npt.NDArray[np.uint8]

# torch.nn.functional.normalize
_EPSILON = 1e-12
# Elements converted at once: what a processor's cache holds.
_CHUNK = 1 << 16
_NUMPY = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
# The bits that are all set in what is infinite or no number.
_EXPONENT = {
    "BF16": np.uint16(0x7F80),
    "F16": np.uint16(0x7C00),
    "F32": np.uint32(0x7F800000),
    "F64": np.uint64(0x7FF0 << 48),
}


def to_floats(data: Bytes, dtype: str) -> Floats:
    """Values of BF16, F16 or F32 bytes as float32, of F64 bytes as float64."""
    if dtype == "BF16":
        return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
    values = data.view(_NUMPY[dtype])
    return values.astype(np.float64 if dtype == "F64" else np.float32)


def from_floats(values: Floats, dtype: str) -> Bytes:
    """Bytes of the nearest values of a dtype, ties to even; NaN stays NaN, what is too large becomes
    infinite. From float64 to half precision by way of float32, as torch does."""
    with np.errstate(over="ignore"):
        if dtype == "F64":
            return values.astype("<f8").view(np.uint8)
        values = values.astype(np.float32, copy=False)
        if dtype != "BF16":
            return values.astype(_NUMPY[dtype]).view(np.uint8)
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded).astype("<u2").view(np.uint8)


def convert_to(data: Bytes, stored: str, wanted: str, name: str) -> Bytes:
    """The nearest values of another dtype. Raises UnsupportedError naming a value too large for it."""
    width, new_width = (ELEMENT_TYPES[dtype].itemsize for dtype in (stored, wanted))
    count = len(data) // width
    out = np.empty(count * new_width, np.uint8)
    for start in range(0, count, _CHUNK):
        values = to_floats(data[start * width : (start + _CHUNK) * width], stored)
        part = out[start * new_width : (start + _CHUNK) * new_width]
        part[:] = from_floats(values, wanted)
        if not _all_finite(part, wanted):
            _refuse_overflow(values, part, wanted, name)
    return out


def _all_finite(data: Bytes, dtype: str) -> bool:
    exponent = _EXPONENT[dtype]
    return not bool(((data.view(exponent.dtype) & exponent) == exponent).any())


def _refuse_overflow(values: Floats, converted: Bytes, dtype: str, name: str) -> None:
    lost = np.isinf(to_floats(converted, dtype)) & np.isfinite(values)
    if lost.any():
        what = f"{name} holds {values[lost][0]:g}, more than {dtype} can hold"
        raise UnsupportedError(what, "dtype", "choose a dtype of greater range")


def round_to(values: Floats, dtype: str) -> Floats:
    return to_floats(from_floats(values, dtype).reshape(-1), dtype).reshape(values.shape)


def normalise_rows(data: Bytes, dtype: str, columns: int) -> Bytes:
    """Every row divided by its Euclidean length, in the steps and roundings of torch's normalize in that
    dtype."""
    rows = to_floats(data, dtype).reshape(-1, columns)
    lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True, dtype=rows.dtype))
    lengths = np.maximum(round_to(lengths, dtype), rows.dtype.type(_EPSILON))
    return from_floats(rows / lengths, dtype).reshape(-1)
