"""What the registry knows of a model where its checkpoint is silent, and which model a checkpoint may be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from converters import Checkpoint
from converters.errors import MissingFactError, ZooError, parameter
from internlm_zoo.registry import Model, Registry
from internlm_zoo.registry.query import SIZES, models_of_shape

# What a checkpoint may leave open: of a released config.json, and of an architecture.
_CONFIG = ("max_position_embeddings", "rms_norm_eps", "rope_scaling", "reward_token_id")
# As the origin of a fact.
REGISTRY = "registry"
# And of which family it is, in Llama's names.
_FAMILY = "family"
_ARCHITECTURE = ("rope_theta", "num_attention_heads")


def known_facts(model: Model | None, registry: Registry) -> Mapping[str, Any]:
    """What the registry says of a model that its checkpoint may not state, where one value holds for all
    revisions; `family` is the one whose layout it has."""
    if model is None:
        return {}
    facts: dict[str, Any] = {_FAMILY: registry.family_of(model).layout}
    facts |= {key: model.released_config[key] for key in _CONFIG if key in model.released_config}
    sizes = model.architecture
    if sizes is None:
        return facts
    facts |= {key: getattr(sizes, key) for key in _ARCHITECTURE if getattr(sizes, key) is not None}
    if sizes.num_kv_heads != sizes.num_attention_heads:  # else it is the number of heads, whatever that is
        facts["num_kv_heads"] = sizes.num_kv_heads
    return facts


def same_shape(facts: Mapping[str, Any], registry: Registry) -> tuple[Model, ...]:
    """The models of the registry that a checkpoint may be, by its sizes and, where that is known, its layout
    (`family`)."""
    if not all(fact in facts for fact in SIZES):
        return ()
    layouts = (
        [facts[_FAMILY]] if _FAMILY in facts else sorted({one.layout for one in registry.families.values()})
    )
    return tuple(
        model
        for layout in layouts
        for model in models_of_shape(registry, layout, facts, scores=facts.get("kind") == "reward")
    )


def shortened(models: Sequence[Model]) -> str:
    """internlm2-7b and 5 more"""
    more = f" and {len(models) - 1} more" if len(models) > 1 else ""
    return f"{models[0].name}{more}"


@contextmanager
def naming_models(
    registry: Registry, model: Model | None, reopened: Callable[[], Checkpoint]
) -> Iterator[None]:
    """Tell whoever misses a fact which models of the registry the checkpoint may be.

    model: what it is known to be. reopened: gives the checkpoint, if its headers can be read at all.
    """
    try:
        yield
    except MissingFactError as error:
        fix = _way_out(error, registry, model, reopened)
        raise MissingFactError(error.fact, error.what, error.where, fix) from error


def _way_out(
    error: MissingFactError, registry: Registry, model: Model | None, reopened: Callable[[], Checkpoint]
) -> str:
    if error.fact not in (*_CONFIG, *_ARCHITECTURE, _FAMILY):
        return error.fix or ""
    if model is not None:
        return f"the registry does not say it of {model.name}: {error.fix}"
    groups = _by_value(error.fact, _alike(reopened, registry), registry)
    if not groups:
        return f"say which model of the registry it is with `known_as=MODEL`, or {error.fix}"
    first = next(iter(groups.values()))[0].name
    if len(groups) == 1:
        (models,) = groups.values()
        return f"this has the shape of {shortened(models)}: {parameter('known_as', first)}; or {error.fix}"
    shapes = ", or of ".join(f"{shortened(models)} ({value})" for value, models in groups.items())
    return (
        f"this has the shape of {shapes}: say which, as with {parameter('known_as', first)}; or {error.fix}"
    )


def _alike(reopened: Callable[[], Checkpoint], registry: Registry) -> tuple[Model, ...]:
    try:
        checkpoint = reopened()
    except ZooError:  # what is missing keeps it from being opened: no shape to compare
        return ()
    return same_shape({name: fact.value for name, fact in checkpoint.facts.items()}, registry)


def _by_value(fact: str, models: Sequence[Model], registry: Registry) -> dict[str, list[Model]]:
    """The models of which the registry says the fact, those that agree together."""
    groups: dict[str, list[Model]] = {}
    for model in models:
        known = known_facts(model, registry)
        if fact in known:
            groups.setdefault(json.dumps(known[fact]), []).append(model)
    return groups
