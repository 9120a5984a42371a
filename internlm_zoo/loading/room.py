"""Where a model goes with room for what it will keep: keys and values of a text, and what comes and goes.

Without a wish for devices the first accelerator is tried, then all of them, then the CPU after them, whose
layers run there: slower, and better than not at all. At last, slowest of all, the disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from converters.formats.shards import parse_size
from internlm_zoo.errors import UnsupportedError
from internlm_zoo.fitting.memory import (
    Workload,
    activation_bytes,
    cache_bytes,
    logit_bytes,
    weight_bytes,
)
from internlm_zoo.fitting.network import ITEMSIZE, Network
from internlm_zoo.fitting.offload import BlockSizes
from internlm_zoo.loading.directory import MaxMemory
from internlm_zoo.loading.placement import DISK, Device, DevicePart, Placement, in_units, place

_LEAST = 1
"""Tokens of a text that a placement has to have room for, unless more are asked for."""
_BESIDE_DISK = 2048
"""Those that there is room for, unless others are asked for, where each layer with no room costs time."""


@dataclass(frozen=True)
class Need:
    """A model that looks for room, or the share that each of tp ranks has of those of its layers that are
    held, of all if None. dtype: of its weights, keys and values, as torch names it."""

    network: Network
    dtype: str
    tp: int = 1
    held: range | None = None

    @property
    def layers(self) -> range:
        return range(self.network.layers) if self.held is None else self.held

    @property
    def ends(self) -> tuple[bool, bool]:
        """Whether it has the embedding, and norm and head."""
        return self.layers.start == 0, self.layers.stop == self.network.layers

    def sizes(self, context: int) -> BlockSizes:
        """Of its blocks, with room for one text of so many tokens."""
        before, layers, after = weight_bytes(self.network, self.tp, ITEMSIZE[self.dtype])
        embedding, head = self.ends
        if head and not embedding and self.network.tied:
            after += before
        held = layers[self.layers.start : self.layers.stop]
        cache = cache_bytes(self.network, self._work(context), self.tp)
        return BlockSizes(before * embedding, held, after * head, cache)

    def working(self, context: int, *, gpu: bool) -> int:
        """What a device needs besides while it runs. gpu: whether one of them is a GPU."""
        work = self._work(context, gpu=gpu)
        return max(
            activation_bytes(self.network, work, self.tp, len(self.layers)),
            logit_bytes(self.network, work),
        )

    def _work(self, context: int, *, gpu: bool = True) -> Workload:
        return Workload(context, 1, self.dtype, self.dtype, gpu)

    def _stored(self, part: DevicePart) -> int:
        """Bytes of the files that hold what is read for each token."""
        return part.read * ITEMSIZE[self.network.dtype or self.dtype] // ITEMSIZE[self.dtype]

    def check_shared(self) -> str | None:
        """What a person should know of how the ranks share it. Raises UnsupportedError where they cannot."""
        network, tp = self.network, self.tp
        if network.scores and self.held is not None and self.held != range(network.layers):
            raise UnsupportedError("transformers divides no reward model into stages", "`pp`", "`pp=1`")
        if not network.fits_ranks(tp):
            what = (
                f"{tp} ranks cannot share its {network.heads} heads over {network.kv_heads} key/value heads "
                f"and its {network.inter} rows of the MLP"
            )
            fits = ", ".join(str(one) for one in range(1, tp) if network.fits_ranks(one))
            raise UnsupportedError(what, "`parallel`", f"start as many ranks as share them: {fits}")
        if tp <= network.kv_heads:
            return None
        return (
            f"each of the {network.kv_heads} key/value heads is on {tp // network.kv_heads} of the {tp} ranks"
        )

    def placed(self, devices: Sequence[Device], context: int) -> Placement:
        """Raises what `place` raises."""
        gpu = any(not device.name.startswith("cpu") for device in devices)
        parts = place(self.sizes(context), devices, self.working(context, gpu=gpu)).parts
        start, (embedding, head) = self.layers.start, self.ends
        return Placement(
            tuple(
                replace(
                    part,
                    first=part.first + start,
                    stop=part.stop + start,
                    embedding=part.embedding and embedding,
                    head=part.head and head,
                    read=self._stored(part),
                )
                for part in parts
            )
        )


@dataclass(frozen=True)
class Room:
    """context: tokens of one text that there is room for besides. note: what a person should know of it."""

    placement: Placement
    context: int
    note: str | None = None


def find_room(need: Need, ways: Sequence[Sequence[Device]], context: int | None) -> Room:
    """On the first of several rows of devices that holds it. context: tokens that there has to be room for;
    None for as many as the model was trained on, where there is room, else fewer.

    Raises UnsupportedError if it fits on none of them, with what the last one lacks; UsageError for more
    devices than layers.
    """
    *others, last = ways
    for devices in others:
        try:
            return _room(need, devices, context, first=devices is ways[0])
        except UnsupportedError:
            continue
    return _room(need, last, context, first=last is ways[0])


def _room(need: Need, devices: Sequence[Device], context: int | None, *, first: bool) -> Room:
    trained = need.network.trained or _LEAST
    wanted = context or (min(trained, _BESIDE_DISK) if devices[-1].name == DISK else trained)
    try:
        placement = need.placed(devices, wanted)
    except UnsupportedError:
        if context is not None:
            raise
        wanted = _longest(need, devices, wanted)
        placement = need.placed(devices, wanted)
    notes = [] if first else [f"it goes on {', '.join(device.name for device in devices)}: {_why(devices)}"]
    if part := placement.on_disk:
        notes.append(_read(part))
    if context is None and wanted < trained:
        few = f"room for {wanted:,} tokens of {trained:,} that it was trained on"
        notes.append(f"beside the weights there is {few}")
    return Room(placement, wanted, "; ".join(notes) or None)


def _read(part: DevicePart) -> str:
    layers = f"layer {part.first}" if len(part.layers) == 1 else f"layers {part.first} to {part.stop - 1}"
    also = "the embedding, " * part.embedding, " and the head" * part.head
    size = f"up to {in_units(part.read)} for each token"
    return f"{also[0]}{layers}{also[1]} stay on disk and are read anew, {size}: {part.runs_on} computes them"


def _why(devices: Sequence[Device]) -> str:
    slow = ", and its layers there run slowly" if devices[-1].name == "cpu" else ""
    return f"fewer do not hold it{slow}"


def _longest(need: Need, devices: Sequence[Device], beyond: int) -> int:
    """Fewer tokens than `beyond`. Raises UnsupportedError if not even _LEAST fit."""
    need.placed(devices, _LEAST)
    fits = _LEAST
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        try:
            need.placed(devices, middle)
            fits = middle
        except UnsupportedError:
            beyond = middle
    return fits


def memory_limits(most: MaxMemory) -> int | dict[str, int] | None:
    """Bytes, for every device or by name. Raises UsageError for what is no size."""
    if isinstance(most, Mapping):
        return {name: parse_size(size) for name, size in most.items()}
    if most is None or isinstance(most, int) or "=" not in most:
        return None if most is None else parse_size(most)
    pairs = (part.rpartition("=") for part in most.split(","))
    return {name.strip(): parse_size(size) for name, _, size in pairs}


def limited(devices: Sequence[Device], most: int | Mapping[str, int] | None) -> tuple[Device, ...]:
    """No more of each than `most` bytes; of one that is not here, so many."""
    limits = most if isinstance(most, Mapping) else dict.fromkeys((one.name for one in devices), most)
    return tuple(_limited(device, limits.get(device.name)) for device in devices)


def _limited(device: Device, most: int | None) -> Device:
    if most is None or (device.memory is not None and device.memory <= most):
        return device
    return Device(device.name, most)
