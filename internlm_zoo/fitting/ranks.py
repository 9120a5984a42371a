"""The memory of every rank of a grid, the smallest grid that fits, and the longest context."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from converters.geometry.cells import uniform_stages
from internlm_zoo.errors import UsageError
from internlm_zoo.fitting.memory import Workload, activation_bytes, cache_bytes, logit_bytes, weight_bytes
from internlm_zoo.fitting.network import Network

NODE = 8
"""GPUs that share one machine, and so at most the ranks of tensor parallelism."""
MOST = 64
"""GPUs that the smallest grid is looked for among."""
_LONGEST = 1 << 24


@dataclass(frozen=True)
class RankMemory:
    """Bytes of each rank of one pipeline stage, which holds layers `first` to `stop - 1`. activations: the
    most at one time in the layers; logits: after them."""

    stage: int
    first: int
    stop: int
    embedding: bool
    head: bool
    weights: int
    cache: int
    activations: int
    logits: int

    @property
    def working(self) -> int:
        """What comes and goes: activations, then logits."""
        return max(self.activations, self.logits)

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.working


def rank_memory(network: Network, work: Workload, tp: int = 1, pp: int = 1) -> tuple[RankMemory, ...]:
    """Of every stage; its tp ranks hold equally much. Layers are cut as InternEvo cuts them.

    Raises UsageError if the heads cannot be shared by tp ranks, UnsupportedError if pp exceeds the layers.
    """
    if not network.fits_ranks(tp):
        what = f"{network.heads} heads over {network.kv_heads} key/value heads cannot be shared by {tp} ranks"
        raise UsageError(what, "`tp`", ", ".join(str(one) for one in shares(network)))
    return tuple(_stages(network, work, tp, pp))


def _stages(network: Network, work: Workload, tp: int, pp: int) -> Iterator[RankMemory]:
    before, layers, after = weight_bytes(network, tp, work.itemsize)
    cache = cache_bytes(network, work, tp)
    for stage, held in enumerate(uniform_stages(network.layers, pp)):
        embedding, head = stage == 0, stage == pp - 1
        weights = sum(layers[held.start : held.stop]) + before * embedding + after * head
        yield RankMemory(
            stage,
            held.start,
            held.stop,
            embedding,
            head,
            weights,
            cache * len(held),
            activation_bytes(network, work, tp, len(held)),
            logit_bytes(network, work) if head else 0,
        )


def shares(network: Network) -> tuple[int, ...]:
    """How many ranks of one machine can share it."""
    return tuple(tp for tp in range(1, NODE + 1) if network.fits_ranks(tp))


@dataclass(frozen=True)
class RankGrid:
    """tp ranks share each of pp stages; need: bytes of the fullest rank."""

    tp: int
    pp: int
    need: int


def grids(network: Network, work: Workload) -> tuple[RankGrid, ...]:
    """Of up to MOST GPUs: the fewest first, of as many the emptiest."""
    found = [
        RankGrid(tp, pp, most(rank_memory(network, work, tp, pp)))
        for tp in shares(network)
        for pp in range(1, min(network.layers, MOST // tp) + 1)
    ]
    return tuple(sorted(found, key=lambda grid: (grid.tp * grid.pp, grid.need)))


def most(ranks: tuple[RankMemory, ...]) -> int:
    """Bytes of the fullest."""
    return max(rank.total for rank in ranks)


def longest_context(network: Network, work: Workload, room: int, grid: tuple[int, int]) -> int:
    """Tokens of each text that fit in so many bytes of every rank of a (tp, pp) grid; 0 if not even the
    weights do."""
    fits, beyond = 0, _LONGEST
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        if most(rank_memory(network, replace(work, context=middle), *grid)) <= room:
            fits = middle
        else:
            beyond = middle
    return fits
