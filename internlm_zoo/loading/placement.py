"""Which layers go on which device, decided from the sizes of the tensors alone: nothing is loaded to know it.

A model is a row of blocks: the embedding with layer 0, the layers between, the last layer with the final norm
and the head. Every device gets consecutive blocks, at least one layer, and the fullest device is as empty as
it can be; a CPU behind accelerators has as few as it can. Where the disk is named as the last of them, what
fits on none of the others stays there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from internlm_zoo.errors import UnsupportedError, UsageError
from internlm_zoo.fitting.offload import BlockSizes, most_held

CPU, DISK = "cpu", "disk"
"""The last to be taken, in this order. Layers that are read anew for each forward pass are said to be on the
disk."""


@dataclass(frozen=True)
class Device:
    """name: as torch spells it ("cpu", "cuda:0"). memory: bytes that are free on it, None if not known."""

    name: str
    memory: int | None = None


@dataclass(frozen=True)
class DevicePart:
    """What one device holds: layers `first` to `stop - 1`, and the ends of the model where it has them.
    nbytes: of weights, cache: of keys and values. runs_on: of layers on disk, the device that computes them
    and has their cache. read: bytes that are read from there for each forward pass, and so for each token."""

    device: Device
    first: int
    stop: int
    nbytes: int
    embedding: bool
    head: bool
    cache: int = 0
    runs_on: str | None = None
    read: int = 0

    @property
    def layers(self) -> range:
        return range(self.first, self.stop)

    @property
    def computes(self) -> str:
        """The device that computes its layers."""
        return self.runs_on or self.device.name


@dataclass(frozen=True)
class Placement:
    parts: tuple[DevicePart, ...]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    @property
    def first_device(self) -> str:
        return self.parts[0].computes

    @property
    def devices(self) -> tuple[str, ...]:
        """As they would be named for it: where what is on disk is computed comes first."""
        held = tuple(part.device.name for part in self.parts)
        reads = self.on_disk.runs_on if self.on_disk else None
        return held if reads is None or reads in held else (reads, *held)

    @property
    def on_disk(self) -> DevicePart | None:
        """What stays there."""
        last = self.parts[-1]
        return last if last.device.name == DISK else None


def place(sizes: BlockSizes, devices: Sequence[Device], working: int = 0) -> Placement:
    """Consecutive layers on every device, in the order given, the fullest one as empty as possible; where the
    last one is the disk, the layers that fit on no other stay there.

    working: bytes that each device needs besides. A device named twice counts as two that share its memory.
    Raises UsageError if there are more devices than layers, UnsupportedError if the model does not fit.
    """
    *held, last = devices
    if not held or last.name != DISK:
        held = [*devices]
    if not 1 <= len(held) <= len(sizes.layers):
        raise UsageError(
            f"{len(held)} devices for {len(sizes.layers)} layers: each device needs at least one layer",
            "`devices`",
        )
    limits = [limit - working for limit in _limits(held)]
    cuts = _behind(sizes.blocks, limits) if _spills(held) else _cut(sizes.blocks, limits)
    if cuts is not None:
        bounds = (0, *cuts, len(sizes.layers))
        return Placement(
            tuple(_part(sizes, one, *ends) for one, ends in zip(held, pairwise(bounds), strict=True))
        )
    counts = most_held(sizes, limits) if last.name == DISK else None
    if counts is None:
        raise _does_not_fit(sizes, devices, working)
    return _with_disk(sizes, held, counts)


def _with_disk(sizes: BlockSizes, devices: Sequence[Device], counts: Sequence[int]) -> Placement:
    """counts: layers of each device; one that has none of them has no part."""
    stops = [*accumulate(counts)]
    parts = [
        _part(sizes, device, stop - count, stop)
        for device, count, stop in zip(devices, counts, stops, strict=True)
        if count
    ]
    if stops[-1] == len(sizes.layers):
        return Placement((*parts,))
    rest = _part(sizes, Device(DISK), stops[-1], len(sizes.layers))
    return Placement((*parts, replace(rest, runs_on=devices[0].name, read=rest.nbytes)))


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


def _spills(devices: Sequence[Device]) -> bool:
    """Whether the last is the CPU and the others are not: what it computes is slow."""
    return devices[-1].name == CPU and len(devices) > 1 and all(device.name != CPU for device in devices[:-1])


def _behind(blocks: Sequence[int], limits: Sequence[float]) -> tuple[int, ...] | None:
    """As `_cut`, with as few blocks as can be on the last device."""
    *others, last = limits
    for held in reversed(range(len(others), len(blocks))):
        cuts = _cut(blocks[:held], others) if sum(blocks[held:]) <= last else None
        if cuts is not None:
            return (*cuts, held)
    return None


def _part(sizes: BlockSizes, device: Device, first: int, stop: int) -> DevicePart:
    embedding, head = first == 0, stop == len(sizes.layers)
    cache = sizes.cache * (stop - first)
    return DevicePart(device, first, stop, sum(sizes.blocks[first:stop]) - cache, embedding, head, cache)


def _does_not_fit(sizes: BlockSizes, devices: Sequence[Device], working: int) -> UnsupportedError:
    held = [device for device in devices if device.name != DISK]
    room = ", ".join(
        f"{device.name} {'unknown' if math.isinf(limit) else in_units(int(limit))}"
        for device, limit in zip(held, _limits(held), strict=True)
    )
    largest = max(sizes.blocks)
    besides = f", and {in_units(working)} on each to run," if working else ""
    how, more = "", "name more `devices`, cpu or at last disk, "
    if len(held) < len(devices):
        how, more = ", not even one at a time from disk,", "give `max_memory` or `context` otherwise, "
    return UnsupportedError(
        f"the model's {in_units(sizes.total)} in {len(sizes.layers)} layers (largest {in_units(largest)})"
        f"{besides} do not fit{how} on {len(held)} device{'s' * (len(held) > 1)} with {room} free",
        "`devices`",
        fix=f"{more}or load a smaller dtype with `dtype='bfloat16'`",
    )


def in_units(nbytes: int) -> str:
    """Bytes for a person: 1.9 MB, 13.4 GB (powers of ten)."""
    size, unit = float(nbytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
