"""Which layers stay on disk where devices hold too few of them: as few as can be, the last ones.

They are read anew for each forward pass, one module at a time, onto the first device, which computes them and
keeps their keys and values. So what it needs for that is the largest of them and all of their cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from internlm_zoo.fitting.memory import Workload, activation_bytes, cache_bytes, logit_bytes, weight_bytes
from internlm_zoo.fitting.network import ITEMSIZE, Network


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

    def beyond(self, held: int) -> int:
        """Weights of all but the first `held` layers, with the ends that go with them."""
        return sum(self.blocks[held:]) - self.cache * (len(self.layers) - held)

    def window(self, held: int) -> int:
        """The largest of the modules that these are read as."""
        if held == len(self.layers):
            return 0
        return max(*self.layers[held:], self.head, self.embedding if held == 0 else 0)


def most_held(sizes: BlockSizes, limits: Sequence[float]) -> tuple[int, ...] | None:
    """How many layers each device holds if as few as possible stay on disk; None where there is not room for
    one at a time.

    limits: bytes of each device, without what it needs to run.
    """
    count = len(sizes.layers)
    for held in reversed(range(count + 1)):
        first = limits[0] - sizes.window(held) - sizes.cache * (count - held)
        counts = _filled(sizes.blocks[:held], [first, *limits[1:]]) if first >= 0 else None
        if counts is not None:
            return counts
    return None


def _filled(blocks: Sequence[int], limits: Sequence[float]) -> tuple[int, ...] | None:
    """Consecutive blocks in each, as many as there is room for; None if that leaves any."""
    counts, start = [], 0
    for limit in limits:
        stop, size = start, 0
        while stop < len(blocks) and size + blocks[stop] <= limit:
            size += blocks[stop]
            stop += 1
        counts.append(stop - start)
        start = stop
    return tuple(counts) if start == len(blocks) else None


@dataclass(frozen=True)
class Offload:
    """How one GPU runs a model that is too large for it. gpu_layers, host_layers, disk_layers: what it holds,
    what the processor holds and computes, and what stays on disk. gpu, host: bytes of weights on each. disk:
    bytes of the files that are read anew for each token."""

    gpu_layers: int
    host_layers: int
    disk_layers: int
    gpu: int
    host: int
    disk: int


def offload(network: Network, work: Workload, gpu: int, host: int) -> Offload | None:
    """In so many bytes of a GPU and of host memory; None where not one layer at a time has room."""
    before, layers, after = weight_bytes(network, 1, work.itemsize)
    sizes = BlockSizes(before, layers, after, cache_bytes(network, work))
    working = max(activation_bytes(network, work, 1, network.layers), logit_bytes(network, work))
    limits = gpu - working, host - working
    counts = most_held(sizes, limits)
    if counts is None:
        return None
    (on_gpu, on_host), held = counts, sum(counts)
    whole, after_gpu, after_host = map(sizes.beyond, (0, on_gpu, held))
    read = after_host * ITEMSIZE[network.dtype or work.dtype] // work.itemsize
    layers_of = on_gpu, on_host, network.layers - held
    return Offload(*layers_of, whole - after_gpu, after_gpu - after_host, read)
