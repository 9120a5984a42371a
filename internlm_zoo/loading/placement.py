"""Which layers go on which device, decided from the sizes of the tensors alone: nothing is loaded to know it.

A model is a row of blocks: the embedding with layer 0, the layers between, the last layer with the final norm
and the head. Every device gets consecutive blocks, at least one layer, and the fullest device is as empty as
it can be.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from internlm_zoo.errors import UnsupportedError, UsageError


@dataclass(frozen=True)
class Device:
    """name: as torch spells it ("cpu", "cuda:0"). memory: bytes that are free on it, None if not known."""

    name: str
    memory: int | None = None


@dataclass(frozen=True)
class BlockSizes:
    """Bytes of each block: what comes before the layers, every layer, and what comes after them. cache: of
    keys and values, in every layer besides."""

    embedding: int
    layers: tuple[int, ...]
    head: int
    cache: int = 0

    @property
    def total(self) -> int:
        return sum(self.blocks)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Bytes of each layer, cache and all, with the embedding in the first, norm and head in the last."""
        first, last = self.embedding, self.head
        return tuple(
            size + self.cache + first * (index == 0) + last * (index == len(self.layers) - 1)
            for index, size in enumerate(self.layers)
        )


@dataclass(frozen=True)
class DevicePart:
    """What one device holds: layers `first` to `stop - 1`, and the ends of the model where it has them.
    nbytes: of weights, cache: of keys and values."""

    device: Device
    first: int
    stop: int
    nbytes: int
    embedding: bool
    head: bool
    cache: int = 0

    @property
    def layers(self) -> range:
        return range(self.first, self.stop)


@dataclass(frozen=True)
class Placement:
    parts: tuple[DevicePart, ...]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    @property
    def first_device(self) -> str:
        return self.parts[0].device.name


def place(sizes: BlockSizes, devices: Sequence[Device], working: int = 0) -> Placement:
    """Consecutive layers on every device, in the order given, the fullest one as empty as possible.

    working: bytes that each device needs besides. A device named twice counts as two that share its memory.
    Raises UsageError if there are more devices than layers, UnsupportedError if the model does not fit.
    """
    if not 1 <= len(devices) <= len(sizes.layers):
        raise UsageError(
            f"{len(devices)} devices for {len(sizes.layers)} layers: each device needs at least one layer",
            "`devices`",
        )
    limits = [limit - working for limit in _limits(devices)]
    cuts = _cut(sizes.blocks, limits)
    if cuts is None:
        raise _does_not_fit(sizes, devices, working)
    return Placement(
        tuple(
            _part(sizes, device, first, stop)
            for device, first, stop in zip(devices, (0, *cuts), (*cuts, len(sizes.layers)), strict=True)
        )
    )


def _limits(devices: Sequence[Device]) -> list[float]:
    """Bytes each may hold: a name that stands twice shares its memory between both."""
    times = Counter(device.name for device in devices)
    return [math.inf if device.memory is None else device.memory / times[device.name] for device in devices]


def _cut(blocks: Sequence[int], limits: Sequence[float]) -> tuple[int, ...] | None:
    """Where each device but the first begins, so that the largest part is smallest; None if nothing fits.

    best[n] is (largest part, cuts) of the first n blocks on the devices seen so far.
    """
    sums = [0]
    for size in blocks:
        sums.append(sums[-1] + size)
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    for limit in limits:
        following: dict[int, tuple[int, tuple[int, ...]]] = {}
        for start, (largest, cuts) in best.items():
            for stop in range(start + 1, len(blocks) + 1):
                size = sums[stop] - sums[start]
                if size > limit:  # nor does any longer stretch fit
                    break
                candidate = (max(largest, size), (*cuts, start))
                following[stop] = min(following.get(stop, candidate), candidate)
        best = following
    found = best.get(len(blocks))
    return found[1][1:] if found else None


def _part(sizes: BlockSizes, device: Device, first: int, stop: int) -> DevicePart:
    embedding, head = first == 0, stop == len(sizes.layers)
    cache = sizes.cache * (stop - first)
    return DevicePart(device, first, stop, sum(sizes.blocks[first:stop]) - cache, embedding, head, cache)


def _does_not_fit(sizes: BlockSizes, devices: Sequence[Device], working: int) -> UnsupportedError:
    room = ", ".join(
        f"{device.name} {'unknown' if math.isinf(limit) else in_units(int(limit))}"
        for device, limit in zip(devices, _limits(devices), strict=True)
    )
    largest = max(sizes.blocks)
    besides = f", and {in_units(working)} on each to run," if working else ""
    return UnsupportedError(
        f"the model's {in_units(sizes.total)} in {len(sizes.layers)} layers (largest {in_units(largest)})"
        f"{besides} do not fit on {len(devices)} devices with {room} free",
        "`devices`",
        fix="name more `devices`, cpu as the last, or load a smaller dtype with `dtype='bfloat16'`",
    )


def in_units(nbytes: int) -> str:
    """Bytes for a person: 1.9 MB, 13.4 GB (powers of ten)."""
    size, unit = float(nbytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
