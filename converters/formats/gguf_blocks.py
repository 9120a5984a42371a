"""Q8_0, the quantised type that GGUF files are written in: 32 numbers are one block of a half-precision scale
and 32 bytes. The numbers are made by the gguf package's own quantiser.

A plan and all that carries it out speak of elements in float32. What they write to such a file is turned into
blocks on its way to the disk: spans of the file lie in a float32 image of it, and `QuantisedBlocks` says
where that is on disk.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from converters.errors import IntegrityError, UsageError
from converters.formats.tensors import TensorLike, nbytes

BLOCK, BLOCK_BYTES = 32, 34  # numbers in a block, and its bytes: a float16 scale, then one for each
_IMAGE_BYTES = 4 * BLOCK  # of a block in the image, which is float32


def is_quantised(tensor: TensorLike) -> bool:
    """Matrices whose rows are whole blocks; what else there is stays float32."""
    return len(tensor.shape) == 2 and tensor.shape[1] % BLOCK == 0


def stored_nbytes(tensor: TensorLike, quantised: bool) -> int:
    if not quantised:
        return nbytes(tensor.dtype, tensor.shape)
    return math.prod(tensor.shape) // BLOCK * BLOCK_BYTES


@dataclass(frozen=True)
class QuantisedBlocks:
    """starts: of each tensor in the image. quantised, offsets: whether it is, and where it is on disk."""

    starts: tuple[int, ...]
    quantised: tuple[bool, ...]
    offsets: tuple[int, ...]

    @staticmethod
    def of(members: Iterable[tuple[TensorLike, bool, int]]) -> QuantisedBlocks:
        tensors, quantised, offsets = zip(*members, strict=True)
        *starts, _ = accumulate((nbytes(one.dtype, one.shape) for one in tensors), initial=0)
        return QuantisedBlocks(tuple(starts), quantised, offsets)

    def encode(self, offset: int, data: memoryview) -> tuple[int, memoryview]:
        """What bytes of the image are on disk, and where."""
        number = bisect_right(self.starts, offset) - 1
        within = offset - self.starts[number]
        if not self.quantised[number]:
            return self.offsets[number] + within, data
        if within % _IMAGE_BYTES or len(data) % _IMAGE_BYTES:
            raise IntegrityError(f"{len(data)} bytes at {within} are not whole blocks of {BLOCK} numbers")
        return self.offsets[number] + within // _IMAGE_BYTES * BLOCK_BYTES, _quantised(data)


def check_quantiser() -> None:
    """Raises UsageError if the package is not there."""
    try:
        import gguf.quants
    except ImportError:
        what = "q8_0 is quantised by the gguf package, which is not installed"
        raise UsageError(what, "`dtype`", "pip install 'internlm-zoo[gguf]', or choose float16") from None
    assert gguf.quants


def _quantised(data: memoryview) -> memoryview:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    blocks = quantize(np.frombuffer(data, "<f4").reshape(-1, BLOCK), GGMLQuantizationType.Q8_0)
    return np.ascontiguousarray(blocks).reshape(-1).view(np.uint8).data
