"""How one fact is spelt in the config of each format: what a key's value says, and the value that says it.

A layout's template maps its keys to these names. A name that is not here is a fact spelt as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from converters.config.rope import DYNAMIC, LINEAR, kind_of, scaling_of
from converters.errors import UnsupportedError
from converters.formats.tensors import DType
from converters.values import MAX_ID, count, flag, items, number, shown, token_id, whole

Value = Any
Stated = Mapping[str, Value]
"""Facts by name."""
UNSTATED = object()


@dataclass(frozen=True)
class Partly:
    """What a spelling says of a fact whose value it does not give. agrees: with a value that another one
    gives. alone: the fact where none does; UNSTATED where that is open."""

    agrees: Callable[[Value], bool]
    alone: Value


@dataclass(frozen=True)
class Spelling:
    """says: the facts it is about. read: a value to them. Raises ValueError for a value that makes no sense,
    UnsupportedError for one that is understood and not possible. write: the value from the facts."""

    says: tuple[str, ...]
    read: Callable[[Value], Stated]
    write: Callable[[Stated], Value]


def spelling(name: str) -> Spelling:
    """How a name of the templates is spelt."""
    return SPELLINGS.get(name) or Spelling((name,), partial(_plain, name), lambda known: known[name])


def _plain(name: str, value: Value) -> Stated:
    """A fact that is spelt as it is; null leaves it open where that is no value of it."""
    return {} if value is None and name not in NULLABLE else {name: PLAIN[name](value)}


def _id_or_none(value: Value) -> Value:
    """-1 is what older configs of Llama say of a pad token that there is not."""
    return value if value is None else whole(value, -1, MAX_ID)


def _ids_or_none(value: Value) -> Value:
    return [token_id(id) for id in items(value)] if isinstance(value, list) else _id_or_none(value)


def _count_or_none(value: Value) -> Value:
    return value if value is None else count(value)


def _order(value: Value) -> Value:
    """Which ones there are is known to the layout."""
    if not isinstance(value, str):
        raise ValueError("it is not the name of an order")
    return value


def _theta(value: Value) -> Stated:
    return _plain("rope_theta", value)


def _scaling(value: Value) -> Stated:
    """The scaling; with rope_theta in it, as transformers 5 has it."""
    theta = value.get("rope_theta") if isinstance(value, Mapping) else None
    return {**_theta(theta), "rope_scaling": scaling_of(value)}


def _rotary(value: Value) -> Stated:
    """InternLM's `rotary`: {"base": 10000, "type": "origin" | "dynamic", "scaling_factor": 1.0}."""
    if not isinstance(value, Mapping):
        raise ValueError("it is not a table of base and type")
    kind = value.get("type", "origin")
    if kind not in ("origin", DYNAMIC):
        raise UnsupportedError(f"type is {shown(kind)}, and only 'origin' and 'dynamic' are known")
    scaling = {"type": DYNAMIC, "factor": value.get("scaling_factor", 1.0)} if kind == DYNAMIC else None
    return {**_theta(value.get("base")), "rope_scaling": scaling_of(scaling)}


def _write_rotary(known: Stated) -> Value:
    scaling = known["rope_scaling"]
    if scaling is None:
        return {"base": known["rope_theta"], "type": "origin"}
    if kind_of(scaling) != DYNAMIC:
        raise UnsupportedError(f"InternLM's config has no {kind_of(scaling)} rope scaling", "rope_scaling")
    return {"base": known["rope_theta"], "type": DYNAMIC, "scaling_factor": float(scaling["factor"])}


def _write_rope_parameters(known: Stated) -> Value:
    scaling = dict(known["rope_scaling"] or {})
    kind = kind_of(scaling) or "default"
    scaling.pop("type", None)
    return {**scaling, "rope_type": kind, "rope_theta": known["rope_theta"]}


def _is_dynamic(scaling: Value) -> bool:
    return scaling is not None and kind_of(scaling) == DYNAMIC


def _use_dynamic(value: Value) -> Stated:
    """True says that there is scaling, but not by which factor."""
    if flag(value):
        return {"rope_scaling": Partly(_is_dynamic, UNSTATED)}
    return {"rope_scaling": Partly(lambda scaling: not _is_dynamic(scaling), None)}


def _epsilon(value: Value) -> Value:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError("it is not a number from 0 to 1")
    return value


# gguf-py constants.py, LlamaFileType: what most matrices of a file are.
GGUF_FILE_TYPES = {"float32": 0, "float16": 1, "q8_0": 7, "bfloat16": 32}


def _write_gguf_scaling(known: Stated) -> Value:
    """llama.cpp applies linear scaling as it stands in a file; dynamic scaling it does not know."""
    scaling = known["rope_scaling"]
    if scaling is None or kind_of(scaling) == LINEAR:
        return scaling
    what = f"a GGUF file cannot say that rotary scaling is {kind_of(scaling)}"
    fix = "`accept_lossy=True` leaves it out: up to max_position_embeddings tokens the model is the same"
    raise UnsupportedError(what, "rope_scaling", fix)


PLAIN: Mapping[str, Callable[[Value], Value]] = {
    **dict.fromkeys(
        ("vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_attention_heads"), count
    ),
    **dict.fromkeys(("max_position_embeddings", "unpadded_vocab_size"), count),
    **dict.fromkeys(("num_kv_heads", "head_dim"), _count_or_none),
    **dict.fromkeys(("attention_bias", "mlp_bias", "embed_split_hidden", "norm_head"), flag),
    "tie_word_embeddings": flag,
    "mlp_order": _order,
    "bos_token_id": _id_or_none,
    "eos_token_id": _ids_or_none,
    "pad_token_id": _id_or_none,
    "reward_token_id": _id_or_none,
    "family": lambda value: value,  # held against those that there are: converters/source/family.py
    "rms_norm_eps": _epsilon,
    "rope_theta": number,
    "qkv": _order,
    "kind": _order,
}
"""What the facts are that every format spells as they are: how each is read."""
NULLABLE = frozenset({"num_kv_heads", "head_dim", "bos_token_id", "eos_token_id", "pad_token_id"})

_ROPE = ("rope_theta", "rope_scaling")
SPELLINGS: Mapping[str, Spelling] = {
    "adapt_hf": Spelling(
        ("adapt_hf",), lambda value: {"adapt_hf": flag(value)}, lambda known: known["adapt_hf"]
    ),
    # InternEvo since #401: initialize/launch.py takes either, and demands that they are opposite.
    "qk_interleaved": Spelling(
        ("adapt_hf",), lambda value: {"adapt_hf": not flag(value)}, lambda known: not known["adapt_hf"]
    ),
    "no_bias": Spelling(
        ("attention_bias",),
        lambda value: {"attention_bias": not flag(value)},
        lambda known: not known["attention_bias"],
    ),
    "rope_scaling": Spelling(_ROPE, _scaling, lambda known: known["rope_scaling"]),
    "rope_parameters": Spelling(_ROPE, _scaling, _write_rope_parameters),
    "rotary": Spelling(_ROPE, _rotary, _write_rotary),
    "use_dynamic_ntk_rope": Spelling(
        ("rope_scaling",), _use_dynamic, lambda known: _is_dynamic(known["rope_scaling"])
    ),
    # Written from the tensors, and read from them too.
    "mlp_ratio": Spelling(
        ("intermediate_size", "hidden_size"),
        lambda value: {},
        lambda known: known["intermediate_size"] / known["hidden_size"],
    ),
    "gguf_file_type": Spelling(("dtype",), lambda value: {}, lambda known: GGUF_FILE_TYPES[known["dtype"]]),
    "gguf_scaling": Spelling(("rope_scaling",), _scaling, _write_gguf_scaling),
    "dtype": Spelling(("dtype",), lambda value: {}, lambda known: known["dtype"]),
    "torch_dtype": Spelling(("dtype",), lambda value: {}, lambda known: DType(known["dtype"])),
}
