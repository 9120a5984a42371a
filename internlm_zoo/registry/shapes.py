"""Which models of the registry have the sizes of a network."""

from __future__ import annotations

from collections.abc import Mapping

from internlm_zoo.registry.query import Registry
from internlm_zoo.registry.schema import Model

# Biases do not count: whether the original release of the 20B of InternLM has any no source settles.
SIZES = (
    "hidden_size",
    "num_layers",
    "num_attention_heads",
    "num_kv_heads",
    "intermediate_size",
    "vocab_size",
)


def models_of_shape(
    registry: Registry, layout: str, sizes: Mapping[str, object], *, scores: bool
) -> tuple[Model, ...]:
    """The models with this layout and these sizes (by the names in SIZES), in registry order.

    scores: reward models, else the others.
    """
    return tuple(
        model
        for model in registry.models.values()
        if model.architecture is not None
        and registry.family_of(model).layout == layout
        and (model.kind == "reward") == scores
        and all(getattr(model.architecture, size) == sizes[size] for size in SIZES)
    )
