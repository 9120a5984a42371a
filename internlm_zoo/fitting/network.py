"""The sizes of a network that its memory follows from, as the registry or a checkpoint's headers say them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from converters import Checkpoint
from converters.config.facts import Facts, dtype_name
from converters.config.rope import reach_of
from converters.geometry.logical import AXES, HALVES, flat_shape
from internlm_zoo.registry import Model, Registry

ITEMSIZE: Mapping[str, int] = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of an element that a model may be held and computed in, by torch's name."""
CACHE_ITEMSIZE: Mapping[str, int] = {**ITEMSIZE, "float8_e4m3fn": 1, "float8_e5m2": 1, "int8": 1}
"""And of one that engines may keep keys and values in."""
_HALF = "bfloat16"


@dataclass(frozen=True)
class Network:
    """counts: logical name and elements of every tensor, without a head that is the embedding. dtype: what
    its weights are stored in, None where nothing says it. trained: tokens that it was trained on, reach:
    tokens that it is said to serve, never fewer; None where nothing says it."""

    layers: int
    hidden: int
    inter: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    counts: tuple[tuple[str, int], ...]
    dtype: str | None
    trained: int | None
    reach: int | None

    @property
    def parameters(self) -> int:
        return sum(count for _, count in self.counts)

    @property
    def scores(self) -> bool:
        """Whether it is a reward model."""
        return any(name == "reward.weight" for name, _ in self.counts)

    @property
    def tied(self) -> bool:
        """Whether its head is the embedding."""
        return not self.scores and all(name != "head.weight" for name, _ in self.counts)

    def fits_ranks(self, tp: int) -> bool:
        """Whether tp ranks can share it: by whole heads, and key/value heads that are whole or repeated."""
        kv = self.kv_heads % tp == 0 or tp % self.kv_heads == 0
        return kv and self.heads % tp == 0 and self.inter % tp == 0


def network_of(checkpoint: Checkpoint, model: Model | None) -> Network:
    """model: what the checkpoint is known to be, for what its config does not say."""
    sizes, dtype = checkpoint.sizes, dtype_name(checkpoint.dtype)
    return Network(
        sizes["layers"],
        sizes["hidden"],
        sizes["inter"],
        sizes["kv_heads"] * sizes["q_per_kv"],
        sizes["kv_heads"],
        sizes["head_dim"],
        sizes["vocab"],
        tuple((name, math.prod(tensor.shape)) for name, tensor in checkpoint.own.items()),
        dtype if dtype in ITEMSIZE else None,
        *contexts(model, checkpoint.facts),
    )


def network_in(registry: Registry, model: Model) -> Network | None:
    """None where the registry does not know its sizes."""
    sizes = model.architecture
    if sizes is None:
        return None
    heads, kv_heads = sizes.num_attention_heads, sizes.num_kv_heads
    head_dim = sizes.hidden_size // heads
    axes = {
        "vocab": sizes.vocab_size,
        "hidden": sizes.hidden_size,
        "inter": sizes.intermediate_size,
        "kv_heads": kv_heads,
        "q_per_kv": heads // kv_heads,
        "halves": HALVES,
        "pairs": head_dim // HALVES,
        "head_dim": head_dim,
        "score": 1,
    }
    names = _names(sizes.num_layers, biases=sizes.attention_bias, scores=model.kind == "reward")
    counts = tuple((name, math.prod(flat_shape(name, axes))) for name in names)
    stated = model.released_config.get("torch_dtype")
    return Network(
        sizes.num_layers,
        sizes.hidden_size,
        sizes.intermediate_size,
        heads,
        kv_heads,
        head_dim,
        sizes.vocab_size,
        counts,
        stated if isinstance(stated, str) and stated in ITEMSIZE else None,
        *contexts(model, {}),
    )


def _names(layers: int, *, biases: bool, scores: bool) -> Iterator[str]:
    """Of its logical tensors. No model of the registry has biases in its mlp, or a head that is the
    embedding."""
    for pattern in AXES:
        if pattern.endswith(".bias") and not (biases and ".attention." in pattern):
            continue
        if pattern == ("head.weight" if scores else "reward.weight"):
            continue
        numbers = range(layers) if ".N." in pattern else range(1)
        yield from (pattern.replace(".N.", f".{number}.") for number in numbers)


def contexts(model: Model | None, facts: Facts) -> tuple[int | None, int | None]:
    """Tokens that a model was trained on, and that it is said to serve: by the registry, or by its config,
    whose scaling of the rotary embedding serves `factor` times as many as it stretches."""
    stated: Mapping[str, Any] = model.released_config if model else {}
    stated = {**stated, **{key: fact.value for key, fact in facts.items()}}
    positions = stated.get("max_position_embeddings")
    trained = (model.context.trained if model else None) or positions
    claimed = model.context.claimed if model else None
    served = (claimed, positions and int(reach_of(stated.get("rope_scaling"), positions)), trained)
    return trained, max((tokens for tokens in served if tokens), default=None)


def dtype_taken(network: Network, dtype: str | None) -> str:
    """The element type asked for, or the stored one; 16 bits where nothing says it."""
    return dtype or network.dtype or _HALF
