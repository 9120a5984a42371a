"""The logical tensors of a checkpoint: what a model is made of, whatever its files look like.

Every logical tensor stands over named axes in one canonical order. What the rotary embedding turns (a
query's or key's head) are two axes, `halves` and `pairs`: canonical, as in Hugging Face's Llama, the first
halves of all pairs come before the second ones; a value's head is one axis, `head_dim`. Query heads are two
axes as well: the key/value head they attend to, and their place in its group.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

HALVES = 2  # of a head, which rotary positions turn against each other

_HEAD = "halves pairs"
AXES: Mapping[str, tuple[str, ...]] = {
    name: tuple(axes.split())
    for name, axes in {
        "embed.weight": "vocab hidden",
        "layers.N.attention_norm.weight": "hidden",
        "layers.N.attention.q.weight": f"kv_heads q_per_kv {_HEAD} hidden",
        "layers.N.attention.k.weight": f"kv_heads {_HEAD} hidden",
        "layers.N.attention.v.weight": "kv_heads head_dim hidden",
        "layers.N.attention.o.weight": "hidden kv_heads q_per_kv head_dim",
        "layers.N.attention.q.bias": f"kv_heads q_per_kv {_HEAD}",
        "layers.N.attention.k.bias": f"kv_heads {_HEAD}",
        "layers.N.attention.v.bias": "kv_heads head_dim",
        "layers.N.attention.o.bias": "hidden",
        "layers.N.mlp_norm.weight": "hidden",
        "layers.N.mlp.gate.weight": "inter hidden",
        "layers.N.mlp.up.weight": "inter hidden",
        "layers.N.mlp.down.weight": "hidden inter",
        "layers.N.mlp.gate.bias": "inter",
        "layers.N.mlp.up.bias": "inter",
        "layers.N.mlp.down.bias": "hidden",
        "norm.weight": "hidden",
        "head.weight": "vocab hidden",
        "reward.weight": "score hidden",
    }.items()
}

Sizes = Mapping[str, int]
"""Extent of every axis, and `layers`."""

_OF_HEADS = ("kv_heads", "q_per_kv", "halves", "pairs", "head_dim")

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


@cache
def pattern_of(name: str) -> str:
    """The name with its layer number as N."""
    return _NUMBER.sub("N", name, count=1)


def axes_of(name: str) -> tuple[str, ...]:
    """The axes of a logical tensor, outermost first."""
    return AXES[pattern_of(name)]


def shape_of(name: str, sizes: Sizes) -> tuple[int, ...]:
    """Its extents in that order."""
    return tuple(sizes[axis] for axis in axes_of(name))


def flat_shape(name: str, sizes: Sizes) -> tuple[int, ...]:
    """The two- or one-dimensional shape that Llama stores it in: the axes of a head or of heads as one."""
    shape: list[int] = []
    inside = False
    for axis in axes_of(name):
        of_heads = axis in _OF_HEADS
        if of_heads and inside:
            shape[-1] *= sizes[axis]
        else:
            shape.append(sizes[axis])
        inside = of_heads
    return tuple(shape)
