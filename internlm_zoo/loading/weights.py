"""Weights on their way from files to devices, without a copy that can be spared.

On the CPU a tensor that lies in a file as it is wanted is mapped, and read by nobody; another is read into
its own memory by several threads. What goes to another device, or becomes of another type, passes through a
ring of buffers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from converters.formats.tensors import ELEMENT_TYPES
from converters.sinks.tensor_reader import LlamaTensor, TensorPart, TensorReader
from converters.streaming.stream import in_parallel
from internlm_zoo.loading.ring import Ring

PART = 8 << 20
"""Bytes that one thread reads in one go."""


@dataclass(frozen=True)
class _Read:
    """A part to be read, and the tensor that it is of."""

    part: TensorPart
    target: torch.Tensor


def read_weights(
    reader: TensorReader, devices: Mapping[str, str], dtype: torch.dtype, *, mapped: bool
) -> dict[str, torch.Tensor]:
    """Every tensor that has a device by name, on it. mapped: whether files may be mapped into memory.

    Raises what reading them does.
    """
    made: dict[str, torch.Tensor] = {}
    reads: list[_Read] = []
    for tensor in (tensor for tensor in reader.tensors if tensor.name in devices):
        device = torch.device(devices[tensor.name])
        found = _map(reader, tensor) if mapped and _as_it_is(tensor, device, dtype) else None
        if found is None:
            found = torch.empty(tensor.shape, dtype=dtype, device=device)
            reads += [_Read(part, found) for part in reader.parts(tensor, PART)]
        made[tensor.name] = found
    _read(reader, reads)
    return made


def _read(reader: TensorReader, reads: list[_Read]) -> None:
    workers = min(os.cpu_count() or 1, 8, len(reads)) or 1
    largest = max((read.part.nbytes for read in reads), default=0)
    with Ring(largest, 2 * workers, {read.target.device for read in reads}) as ring:

        def one(read: _Read) -> None:
            part, stored = read.part, stored_type(read.part.tensor)
            flat = read.target.view(-1)
            first = part.start // stored.itemsize
            piece = flat[first : first + part.nbytes // stored.itemsize]
            if _as_it_is(part.tensor, piece.device, piece.dtype):
                reader.read_into(part, piece.view(torch.uint8).numpy())
            else:
                ring.pass_on(lambda out: reader.read_into(part, out), part.nbytes, stored, piece)

        in_parallel(one, reads, workers)


def _map(reader: TensorReader, tensor: LlamaTensor) -> torch.Tensor | None:
    memory = reader.mapped(tensor)
    if memory is None:
        return None
    return torch.frombuffer(memory, dtype=stored_type(tensor)).reshape(tensor.shape)


def _as_it_is(tensor: LlamaTensor, device: torch.device, dtype: torch.dtype) -> bool:
    return bool(device.type == "cpu" and dtype == stored_type(tensor))


def stored_type(tensor: LlamaTensor) -> torch.dtype:
    found: torch.dtype = getattr(torch, ELEMENT_TYPES[tensor.dtype].torch)
    return found
