"""What a config may say of rotary scaling: the types that stock Llama computes, and what each needs.

Facts: transformers 4.57 and 5.24 modeling_rope_utils.py; 4.37 LlamaConfig, which takes
`type` and `factor` and nothing else; internlm/internlm-7b modeling_internlm.py (rotary).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from converters.errors import UnsupportedError
from converters.values import MAX_COUNT, items, number, of, shown

Scaling = Mapping[str, Any]
DYNAMIC, LINEAR = "dynamic", "linear"
_DEFAULT = (None, "default")


@dataclass(frozen=True)
class ScalingType:
    """needs: fields without which it means nothing. may: others that it has. plain: spelt `type`, as every
    version reads it; the others came with `rope_type`."""

    needs: tuple[str, ...]
    may: tuple[str, ...] = ()
    plain: bool = False


_TRAINED = "original_max_position_embeddings"
KINDS: Mapping[str, ScalingType] = {
    "linear": ScalingType(("factor",), plain=True),
    "dynamic": ScalingType(("factor",), plain=True),
    "yarn": ScalingType(
        ("factor",),
        (_TRAINED, "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    ),
    "llama3": ScalingType(("factor", "low_freq_factor", "high_freq_factor", _TRAINED)),
    "longrope": ScalingType(("short_factor", "long_factor"), (_TRAINED, "factor", "attention_factor")),
}


def kind_of(scaling: Scaling) -> Any:
    """`type`, or `rope_type` since transformers 4.45. Raises ValueError if both are there and differ."""
    named = [scaling[key] for key in ("rope_type", "type") if scaling.get(key) is not None]
    if named[1:] and named[0] != named[1]:
        raise ValueError("its type and its rope_type differ")
    return named[0] if named else None


def scaling_of(rope: Scaling | None) -> dict[str, Any] | None:
    """The scaling alone, in one spelling; None where there is none. rope_theta is left out.

    Raises ValueError for what makes no sense, naming the field, UnsupportedError for a type that stock Llama
    does not know or a field that its type does not have.
    """
    if rope is None:
        return None
    if not isinstance(rope, Mapping) or not all(isinstance(key, str) for key in rope):
        raise ValueError("it is not a table of fields such as type and factor")
    kind = kind_of(rope)
    fields = {key: value for key, value in rope.items() if key not in ("type", "rope_type", "rope_theta")}
    if fields.get("partial_rotary_factor") == 1:
        del fields["partial_rotary_factor"]
    if kind in _DEFAULT:
        if fields:
            raise ValueError(f"it has {', '.join(sorted(fields))}, and no type of scaling")
        return None
    if not isinstance(kind, str) or kind not in KINDS:
        raise UnsupportedError(
            f"rotary scaling of the type {shown(kind)} is not known: {', '.join(KINDS)} are", "rope_scaling"
        )
    return {"type" if KINDS[kind].plain else "rope_type": kind, **_fields(kind, fields)}


def _fields(kind: str, fields: Scaling) -> dict[str, Any]:
    rule = KINDS[kind]
    for name in rule.needs:
        if fields.get(name) is None:
            raise ValueError(f"scaling of the type {kind} needs its {name}")
    for name in fields:
        if name not in (*rule.needs, *rule.may, _TRAINED):
            raise UnsupportedError(f"rotary scaling of the type {kind} has no {shown(name)}", "rope_scaling")
    checked: dict[str, Any] = {
        name: _checked(name, value) for name, value in fields.items() if value is not None
    }
    for low, high in _RISING.get(kind, ()):
        if not ({**_BETA, **checked}[low] < {**_BETA, **checked}[high]):
            raise ValueError(f"its {low} is not below its {high}")
    return {name: checked[name] for name in rule.needs} if rule.plain else checked


def _checked(name: str, value: object) -> object:
    return of(name, value, _READ.get(name, number))


def _truncate(value: object) -> object:
    return value if isinstance(value, bool) else number(value)


def _positions(value: object) -> float:
    if not 1 < number(value) < MAX_COUNT:  # whose logarithm divides
        raise ValueError("no model was trained on so many positions")
    return number(value)


def _per_pair(value: object) -> list[float]:
    """One factor for each pair of dimensions."""
    return [number(one) for one in items(value)]


def check_pairs(scaling: Scaling | None, pairs: int) -> None:
    """Raises ValueError for factors of other pairs of dimensions than a head's."""
    for name in ("short_factor", "long_factor"):
        count = len((scaling or {}).get(name, range(pairs)))
        if count != pairs:
            raise ValueError(f"its {name} has {count} numbers, for {pairs} pairs of dimensions of a head")


def reach_of(scaling: Scaling | None, positions: float) -> float:
    """Tokens that a model of so many positions serves: the factor of its scaling times those that it is
    stretched from, and no fewer."""
    if not isinstance(scaling, Mapping):
        return positions
    stretched: float = scaling.get(_TRAINED, positions) * scaling.get("factor", 1)
    return max(positions, stretched)


def border_of(scaling: Scaling | None, positions: int) -> int | None:
    """Tokens beyond which other factors count for all that was read before, which stock Llama does not read
    anew: an answer cannot cross it. None where there is no such border."""
    if not isinstance(scaling, Mapping) or kind_of(scaling) != "longrope":
        return None
    return int(scaling.get(_TRAINED, positions))


_READ: Mapping[str, Callable[[object], object]] = {
    "factor": lambda value: float(number(value)),  # transformers 4.37 wants it to be a float
    "truncate": _truncate,
    _TRAINED: _positions,
    "short_factor": _per_pair,
    "long_factor": _per_pair,
}
"""What is not a number alone."""
_RISING = {"llama3": [("low_freq_factor", "high_freq_factor")], "yarn": [("beta_slow", "beta_fast")]}
_BETA = {"beta_slow": 1, "beta_fast": 32}
"""What yarn takes where they are left out."""
