"""Which fact of a config is wrong, found by trying: with another value the golden logits come back, or what
passages should cost.

What the files state otherwise than the registry is named before anything is loaded (`facts.py`); this is for
what a user gave, what no file states, and what the registry does not know of the model itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import converters
from internlm_zoo.checkpoints.contradictions import expected_of
from internlm_zoo.checkpoints.facts import known_facts
from internlm_zoo.errors import ZooError
from internlm_zoo.loading.directory import ModelDirectory
from internlm_zoo.loading.load import Loaded, execute

_THETA, _EPS = "rope_theta", "rms_norm_eps"
_HEADS = ("num_attention_heads", "num_kv_heads", "head_dim")
_GROUPS = ((_THETA,), ("rope_scaling",), (_EPS,), _HEADS)
_EPSILONS = (1e-5, 1e-6)


def config_cause(loaded: Loaded, holds: Callable[[Loaded], bool]) -> str | None:
    """The facts with other values of which `holds` becomes true, and these: "with rope_theta 10000 instead of
    5000"; None if there are none. Each try loads the model again, and what cannot be loaded is not the cause.
    Ranks that share one do not try."""
    if loaded.plan.ranks:
        return None
    directory = loaded.plan.directory
    for change in _changes(directory):
        try:
            other = _with(loaded, change)
        except ZooError:
            continue
        if holds(other):
            said = [f"{fact} {value} instead of {_of(directory, fact)}" for fact, value in change.items()]
            return f"with {' and '.join(said)}"
    return None


def _changes(directory: ModelDirectory) -> Iterator[Mapping[str, Any]]:
    """What the registry says of this model, a group at a time and together; then what it says of others."""
    said = _expected(directory)
    wanted = {fact: value for fact, value in said.items() if value != _of(directory, fact)}
    groups = [{fact: wanted[fact] for fact in group if fact in wanted} for group in _GROUPS]
    yield from (group for group in groups if group)
    if sum(map(bool, groups)) > 1:
        yield wanted
    sizes = (model.architecture for model in directory.registry.models.values())
    thetas = {one.rope_theta for one in sizes if one and one.rope_theta}
    for fact, values in ((_THETA, sorted(thetas)), (_EPS, _EPSILONS)):
        tried = said.get(fact), _of(directory, fact)
        yield from ({fact: value} for value in values if value not in tried)
    yield from _other_heads(directory)


def _other_heads(directory: ModelDirectory) -> Iterator[Mapping[str, Any]]:
    """Twice as wide and half as many, and the other way, which fit all tensors just as well."""
    heads, kv, dim = (_of(directory, fact) for fact in _HEADS)
    if heads and kv and dim:
        if heads % 2 == kv % 2 == 0:
            yield dict(zip(_HEADS, (heads // 2, kv // 2, dim * 2), strict=True))
        if dim % 4 == 0:
            yield dict(zip(_HEADS, (heads * 2, kv * 2, dim // 2), strict=True))


def _expected(directory: ModelDirectory) -> Mapping[str, Any]:
    """What the registry says of the model, of facts that any checkpoint of its shapes may have."""
    facts = dict(expected_of(directory.model, directory.registry).facts) if directory.model else {}
    heads, hidden = facts.get("num_attention_heads"), facts.get("hidden_size")
    facts |= {"head_dim": hidden // heads} if heads and hidden else {}
    return {fact: facts[fact] for group in _GROUPS for fact in group if fact in facts}


def _of(directory: ModelDirectory, fact: str) -> Any:
    found = directory.checkpoint.facts.get(fact)
    return found.value if found else None


def _with(loaded: Loaded, change: Mapping[str, Any]) -> Loaded:
    """Raises what opening and loading a checkpoint of such facts raises."""
    directory = loaded.plan.directory
    given, known = {**directory.given, **change}, known_facts(directory.model, directory.registry)
    checkpoint = converters.open_checkpoint(directory.checkpoint.folder, given, known, directory.weights)
    return execute(replace(loaded.plan, directory=replace(directory, checkpoint=checkpoint)))
