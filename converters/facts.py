"""What is known of a checkpoint besides its tensors, each fact with its origin, and configs as tables.

A layout's template maps config keys to literals or `$fact`; `read` and `write` use the same template in both
directions. A few facts are spelt differently from format to format: SPELLED and DERIVED translate those.
Nothing is defaulted here: a fact that nobody states is missing, and whoever needs it asks for it by name.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from converters.errors import IntegrityError, UnsupportedError, UsageError
from converters.formats.tensors import ELEMENT_TYPES, DType
from converters.layouts.table import Layout

GIVEN = "given"
TENSORS = "tensors"
FORMAT = "format"

Value = Any


@dataclass(frozen=True)
class Fact:
    """origin: `tensors`, `given`, `format` (a constant of the layout), `registry`, or the config file."""

    value: Value
    origin: str


Facts = Mapping[str, Fact]

_UNSTATED = object()

# What a refusal suggests for a fact that has to be given.
LIKELY: Mapping[str, str] = {
    "max_position_embeddings": "2048, 4096 or 32768",
    "rms_norm_eps": "1e-5 or 1e-6",
    "rope_theta": "10000 or 1000000",
    "rope_scaling": 'null, or {"type": "dynamic", "factor": 2.0}',
    "mlp_order": "up_down (w2 is up, as in the released models) or down_up (w2 is down)",
    "embed_split_hidden": "true or false",
    "num_attention_heads": "32 (7B) or 40 (20B)",
}


def _rotary(rotary: Mapping[str, Value]) -> dict[str, Value]:
    """InternLM's `rotary`: {"base": 10000, "type": "origin" | "dynamic", "scaling_factor": 1.0}."""
    dynamic = rotary.get("type") == "dynamic"
    scaling = {"type": "dynamic", "factor": float(rotary.get("scaling_factor", 1.0))} if dynamic else None
    return {"rope_theta": rotary.get("base"), "rope_scaling": scaling}


def _rope_parameters(rope: Mapping[str, Value] | None) -> dict[str, Value]:
    """transformers 5: rope_theta and the scaling in one place."""
    rope = dict(rope or {})
    theta = {"rope_theta": rope.pop("rope_theta")} if "rope_theta" in rope else {}
    return {**theta, "rope_scaling": None if rope.get("rope_type") in (None, "default") else rope}


SPELLED: Mapping[str, Callable[[Value], dict[str, Value]]] = {
    "no_bias": lambda value: {"attention_bias": not value},
    "rotary": _rotary,
    "rope_parameters": _rope_parameters,
    # True says that there is scaling, but not by which factor.
    "use_dynamic_ntk_rope": lambda value: {"rope_scaling": _UNSTATED if value else None},
    # Written from the tensors, and read from them too.
    "mlp_ratio": lambda value: {},
    "torch_dtype": lambda value: {},
    "dtype": lambda value: {},
}


def _write_rotary(facts: _Known) -> Value:
    scaling = facts["rope_scaling"]
    if scaling is None:
        return {"base": facts["rope_theta"], "type": "origin"}
    if _kind(scaling) != "dynamic":
        raise UnsupportedError(f"InternLM's config has no {_kind(scaling)} rope scaling", "rope_scaling")
    return {"base": facts["rope_theta"], "type": "dynamic", "scaling_factor": float(scaling["factor"])}


def _kind(scaling: Mapping[str, Value]) -> Value:
    return scaling.get("rope_type", scaling.get("type"))


class _Known:
    """Facts by name; one that is missing is asked for."""

    def __init__(self, facts: Facts, where: str) -> None:
        self._facts, self._where = facts, where

    def __getitem__(self, name: str) -> Value:
        if name not in self._facts:
            raise missing(name, self._where)
        return self._facts[name].value


DERIVED: Mapping[str, Callable[[_Known], Value]] = {
    "no_bias": lambda known: not known["attention_bias"],
    "rotary": _write_rotary,
    "mlp_ratio": lambda known: known["intermediate_size"] / known["hidden_size"],
    "torch_dtype": lambda known: DType(known["dtype"]),
    "use_dynamic_ntk_rope": lambda known: (
        known["rope_scaling"] is not None and _kind(known["rope_scaling"]) == "dynamic"
    ),
}


def missing(name: str, where: str) -> UsageError:
    """The refusal of whoever needs a fact that nobody states."""
    likely = f"; likely values: {LIKELY[name]}" if name in LIKELY else ""
    return UsageError(
        f"{name} is stated neither by the checkpoint nor by its format, and is not for us to guess",
        where,
        f"give it with --set {name}=VALUE{likely}",
    )


def read(
    layout: Layout, config: Mapping[str, Value], origin: str, *, given: Facts, known: Facts
) -> dict[str, Fact]:
    """Facts of a config. given: override it. known: stand in where it and its format are silent.

    Raises UnsupportedError for a key that the layout demands another value of.
    """
    _check_demands(layout, config, origin)
    facts = _spelt(layout.constants, FORMAT)
    for key, pattern in {**layout.template, **layout.reads}.items():
        if key in config and isinstance(pattern, str) and pattern.startswith("$"):
            facts |= _spelt({pattern[1:]: config[key]}, origin)
    stated = {name: fact for name, fact in facts.items() if fact.value is not _UNSTATED}
    return {**known, **stated, **given}


def _spelt(values: Mapping[str, Value], origin: str) -> dict[str, Fact]:
    facts = {}
    for name, value in values.items():
        for fact, meant in (_meant(name, value, origin) if name in SPELLED else {name: value}).items():
            facts[fact] = Fact(meant, origin)
    return facts


def _meant(name: str, value: Value, origin: str) -> dict[str, Value]:
    try:
        return SPELLED[name](value)
    except (AttributeError, TypeError, ValueError):
        raise IntegrityError(f"{name} is {value!r}, of which no sense can be made", origin) from None


def _check_demands(layout: Layout, config: Mapping[str, Value], origin: str) -> None:
    for key, allowed in layout.demands.items():
        if key in config and config[key] not in allowed:
            raise UnsupportedError(
                f"{key} is {config[key]!r}, and only {' or '.join(map(repr, allowed))} is supported", origin
            )
    for key, other in layout.agree:
        if config.get(key) != config.get(other):
            raise UnsupportedError(
                f"{key} is {config.get(key)!r} but {other} is {config.get(other)!r}: "
                "stock Llama has one switch for both",
                origin,
            )


def write(layout: Layout, facts: Facts) -> dict[str, Value]:
    """The config of a layout. Raises UsageError naming a fact that is missing."""
    known = _Known(facts, layout.name)
    fields = {key: _value(pattern, known) for key, pattern in layout.template.items()}
    return {**layout.by_kind.get(known["kind"], {}), **fields} if layout.by_kind else fields


def write_only(layout: Layout, facts: Facts, names: Collection[str]) -> dict[str, Value]:
    """The entries of its config that say one of these facts."""
    known = _Known(facts, layout.name)
    return {
        key: _value(pattern, known) for key, pattern in layout.template.items() if str(pattern)[1:] in names
    }


def _value(pattern: object, known: _Known) -> Value:
    if not (isinstance(pattern, str) and pattern.startswith("$")):
        return pattern
    name = pattern[1:]
    return DERIVED[name](known) if name in DERIVED else known[name]


def given_facts(given: Mapping[str, Value], *layouts: Layout) -> dict[str, Fact]:
    """What a user gave, by fact or by the config key of one of the layouts. Raises UsageError for neither."""
    names: dict[str, str] = {}
    for layout in layouts:
        names |= {choice: choice for choice in layout.choices}
        for key, pattern in {**layout.template, **layout.reads}.items():
            if isinstance(pattern, str) and pattern.startswith("$"):
                names |= {key: pattern[1:], pattern[1:]: pattern[1:]}
    facts: dict[str, Fact] = {}
    for key, value in given.items():
        if key not in names:
            near = difflib.get_close_matches(key, names, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(names))}"
            raise UsageError(f"{key} is not a fact of these formats", "--set", hint)
        facts |= _spelt({names[key]: value}, GIVEN)
    return facts


def dtype_name(code: str) -> str:
    """The torch name of a safetensors code: BF16 is bfloat16."""
    return ELEMENT_TYPES[code].torch
