"""What a config may say of rotary scaling: the types that stock Llama computes, and what each needs.

Facts: transformers 4.57 and 5.24 modeling_rope_utils.py; 4.37 LlamaConfig, which takes
`type` and `factor` and nothing else; internlm/internlm-7b modeling_internlm.py (rotary).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from converters.errors import UnsupportedError

Scaling = Mapping[str, Any]
DYNAMIC, LINEAR = "dynamic", "linear"
_DEFAULT = (None, "default")
# Far beyond any that is in use, and far from where float32 gives out.
_LARGEST = 1e15


@dataclass(frozen=True)
class Kind:
    """needs: fields without which it means nothing. may: others that it has. plain: spelt `type`, as every
    version reads it; the others came with `rope_type`."""

    needs: tuple[str, ...]
    may: tuple[str, ...] = ()
    plain: bool = False


_TRAINED = "original_max_position_embeddings"
KINDS: Mapping[str, Kind] = {
    "linear": Kind(("factor",), plain=True),
    "dynamic": Kind(("factor",), plain=True),
    "yarn": Kind(
        ("factor",),
        (_TRAINED, "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    ),
    "llama3": Kind(("factor", "low_freq_factor", "high_freq_factor", _TRAINED)),
    "longrope": Kind(("short_factor", "long_factor"), (_TRAINED, "factor", "attention_factor")),
}


def number(value: object) -> float:
    """A finite number above zero. Raises ValueError for any other, and for one no model could have."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("it is not a number")
    if not 0 < value < _LARGEST:  # NaN is neither, and a huge int is compared without being converted
        raise ValueError(f"it is not a number between 0 and {_LARGEST:g}")
    return value


def kind_of(scaling: Scaling) -> Any:
    """`type`, or `rope_type` since transformers 4.45. Raises ValueError if both are there and differ."""
    named = {scaling[key] for key in ("rope_type", "type") if scaling.get(key) is not None}
    if len(named) > 1:
        raise ValueError("its type and its rope_type differ")
    return named.pop() if named else None


def scaling_of(rope: Scaling | None) -> dict[str, Any] | None:
    """The scaling alone, in one spelling; None where there is none. rope_theta is left out.

    Raises ValueError for what makes no sense, naming the field, UnsupportedError for a type that stock Llama
    does not know or a field that its type does not have.
    """
    if rope is None:
        return None
    if not isinstance(rope, Mapping):
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
            f"rotary scaling of the type {kind!r} is not known: {', '.join(KINDS)} are", "rope_scaling"
        )
    return {"type" if KINDS[kind].plain else "rope_type": kind, **_fields(kind, fields)}


def _fields(kind: str, fields: Scaling) -> dict[str, Any]:
    rule = KINDS[kind]
    for name in rule.needs:
        if fields.get(name) is None:
            raise ValueError(f"scaling of the type {kind} needs its {name}")
    for name in fields:
        if name not in (*rule.needs, *rule.may, _TRAINED):
            raise UnsupportedError(f"rotary scaling of the type {kind} has no {name}", "rope_scaling")
    checked = {name: _checked(name, value) for name, value in fields.items() if value is not None}
    return {name: checked[name] for name in rule.needs} if rule.plain else checked


def _checked(name: str, value: object) -> object:
    """A number, or a list of them; transformers 4.37 wants a factor to be a float."""
    if isinstance(value, bool) and name == "truncate":
        return value
    try:
        if isinstance(value, list):
            return [number(one) for one in value]
        return float(number(value)) if name == "factor" else number(value)
    except ValueError as error:
        raise ValueError(f"{name} is {_shown(value)}: {error}") from None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
