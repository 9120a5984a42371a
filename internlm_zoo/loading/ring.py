"""A few buffers in turn, through which bytes reach a device while others are being read.

Buffers for an accelerator are pinned: only from such memory does it fetch by itself, at the rate of the bus
(cudaMemcpyAsync of the CUDA Runtime API).
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import TracebackType

import torch

from converters.source.gather import Bytes


@dataclass
class _Slot:
    """memory: uint8; None until it is needed. sent: when what it held last has left it."""

    memory: torch.Tensor | None = None
    sent: torch.cuda.Event | None = None


class Ring:
    """A context manager; leaving it waits until all has arrived. size: bytes of a buffer. slots: how many,
    each made when it is needed first. devices: where things go."""

    def __init__(self, size: int, slots: int, devices: Collection[torch.device]) -> None:
        self._size = size
        self._free: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for _ in range(slots):
            self._free.put(_Slot())
        self._streams = {device: _beside_kernels(device) for device in devices if device.type == "cuda"}

    def __enter__(self) -> Ring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams.values():
            stream.synchronize()

    def pass_on(
        self, read: Callable[[Bytes], None], nbytes: int, stored: torch.dtype, target: torch.Tensor
    ) -> None:
        """Have `read` fill a buffer, and its elements sent to the target. stored: their type; the target's
        may be another."""
        slot = self._free.get()
        try:
            memory = self._ready(slot)
            filled = memory[:nbytes]
            read(filled.numpy())
            slot.sent = self._send(filled.view(stored), target)
        finally:
            self._free.put(slot)

    def _ready(self, slot: _Slot) -> torch.Tensor:
        if slot.sent is not None:
            slot.sent.synchronize()
            slot.sent = None
        if slot.memory is None:
            slot.memory = torch.empty(self._size, dtype=torch.uint8, pin_memory=bool(self._streams))
        return slot.memory

    def _send(self, filled: torch.Tensor, target: torch.Tensor) -> torch.cuda.Event | None:
        if target.device not in self._streams:
            target.copy_(filled)
            return None
        with torch.cuda.stream(self._streams[target.device]):
            if filled.dtype != target.dtype:  # there, as torch would do it here in memory that is not pinned
                filled = filled.to(target.device, non_blocking=True)
            target.copy_(filled, non_blocking=True)
            sent = torch.cuda.Event()
            sent.record()
        return sent


def _beside_kernels(device: torch.device) -> torch.cuda.Stream:
    """A stream that begins when the kernels are done with memory that is used again."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    return stream
