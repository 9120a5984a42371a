"""Tensors of a checkpoint, or slices of them, in torch's memory: one after another, or many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from converters import Checkpoint
from converters.formats.tensors import ELEMENT_TYPES, DType
from converters.geometry.cells import Box
from converters.sinks.slices import Elements, SlicedTensor, SliceReader, regions_of, tensors_of
from converters.source.elements import FLOATS
from converters.streaming.stream import in_parallel
from internlm_zoo.errors import UnsupportedError, UsageError
from internlm_zoo.fitting.memory import check_count
from internlm_zoo.fitting.network import ITEMSIZE

MOST = 64 << 20
"""Bytes that one thread reads in one go, and has beside memory of an accelerator."""
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Slice:
    """A region of a tensor, and the memory of its shape where it is wanted: on any device, in any strides and
    any element type that weights are kept in."""

    tensor: SlicedTensor
    region: Box
    target: torch.Tensor

    def parts(self) -> Iterator[Slice]:
        """The same in slices of at most MOST bytes."""
        for rows in regions_of(tuple(self.target.shape), self.target.itemsize, MOST):
            moved = zip(rows, self.region, strict=True)
            region = tuple((first + start, first + stop) for (start, stop), (first, _) in moved)
            yield Slice(self.tensor, region, self.target[rows[0][0] : rows[0][1]])


def iterate(
    checkpoint: Checkpoint, names: str, rank: int, tp: int, dtype: str | None
) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and tensor of all that a rank holds. dtype: torch's name, None for what each is stored in.

    Raises at once UsageError for what is no dtype or number of ranks and what `tensors_of` raises; what
    reading raises when it comes to that.
    """
    if dtype not in (None, *ITEMSIZE):
        raise UsageError(f"'{dtype}' is not a dtype of weights", "`dtype`", fix=", ".join(ITEMSIZE))
    check_count("tp", tp)
    return _each(SliceReader(checkpoint, exact=tp > 1), tensors_of(checkpoint, names, rank, tp), dtype)


def read_slices(reader: SliceReader, slices: Iterable[Slice]) -> None:
    """Fill the memory of all slices, by several threads.

    Raises what reading does, UnsupportedError for memory of a type that weights are not read as.
    """

    def one(part: Slice) -> None:
        _read(reader, part)

    in_parallel(one, [part for whole in slices for part in whole.parts()], None)


def stored_type(tensor: SlicedTensor) -> torch.dtype:
    found: torch.dtype = getattr(torch, ELEMENT_TYPES[tensor.dtype].torch)
    return found


def _each(
    reader: SliceReader, shares: Iterable[SlicedTensor], dtype: str | None
) -> Iterator[tuple[str, torch.Tensor]]:
    with reader:
        reader.check_replicas()
        for share in shares:
            yield share.name, _whole(reader, share, getattr(torch, dtype) if dtype else stored_type(share))


def _whole(reader: SliceReader, tensor: SlicedTensor, dtype: torch.dtype) -> torch.Tensor:
    out = torch.empty(tensor.shape, dtype=dtype)
    read_slices(reader, [Slice(tensor, tensor.whole, out)])
    return out


def _read(reader: SliceReader, part: Slice) -> None:
    code, target = _code(part), part.target
    here = target if target.device.type == "cpu" else torch.empty(target.shape, dtype=target.dtype)
    reader.read_into(part.tensor, part.region, code, _elements(here))
    if here is not target:
        target.copy_(here)


def _code(part: Slice) -> str:
    code = DType(str(part.target.dtype).removeprefix("torch.")).code
    if code not in FLOATS:
        what = f"{part.tensor.name} is wanted as {part.target.dtype}, which weights are not read as"
        kept = ", ".join(ELEMENT_TYPES[one].torch for one in FLOATS)
        raise UnsupportedError(what, "dtype", f"choose one of {kept}, and convert it afterwards")
    return code


def _elements(memory: torch.Tensor) -> Elements:
    """Its bit patterns, in the same memory."""
    bits: Elements = memory.view(_BITS[memory.itemsize]).numpy().view(f"u{memory.itemsize}")
    return bits
