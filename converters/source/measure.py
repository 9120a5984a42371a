"""How large a checkpoint is along every axis, from its config, or from a tensor whose shape alone says it."""

from __future__ import annotations

from functools import partial

from converters.config.facts import FORMAT, TENSORS, Fact, Facts, missing
from converters.config.rope import check_pairs
from converters.errors import IntegrityError
from converters.geometry.cells import Grid
from converters.geometry.logical import HALVES
from converters.layouts.table import Layout
from converters.source.match import Stored
from converters.values import MAX_COUNT, shown

MOST = {"vocab_size": 1 << 24, "num_attention_heads": 1 << 20}
"""Far beyond any model. Each row of the vocabulary becomes a text of a GGUF file's tokenizer."""


def measure(
    layout: Layout, facts: Facts, stored: Stored, grid: Grid, config_file: str
) -> tuple[dict[str, Fact], dict[str, int]]:
    """The extent of every axis from the config, or from a tensor whose shape alone says it."""
    facts = dict(facts)
    whole = partial(_whole, facts, config_file)
    layers = grid.stages[-1].stop
    if facts.setdefault("num_layers", Fact(layers, TENSORS)).value != layers:
        raise IntegrityError(
            f"its files hold {layers} layers, and its config says {facts['num_layers'].value}", config_file
        )
    for fact in ("hidden_size", "num_attention_heads"):
        if fact not in facts:
            raise missing(fact, config_file)
    for fact, axis in (("vocab_size", "vocab"), ("intermediate_size", "inter")):
        if fact not in facts:
            facts[fact] = Fact(_solve(layout, axis, stored, grid, config_file), TENSORS)
    heads, hidden = whole("num_attention_heads"), whole("hidden_size")
    for fact, usual in (("num_kv_heads", heads), ("head_dim", hidden // heads)):
        if fact not in facts or facts[fact].value is None:
            facts[fact] = Fact(usual, FORMAT)
    kv_heads, head_dim = whole("num_kv_heads"), whole("head_dim")
    if heads % kv_heads or head_dim % HALVES:
        what = f"{heads} heads of {head_dim} dimensions cannot be shared by {kv_heads} key/value heads"
        raise IntegrityError(what, config_file)
    _check_scaling(facts, head_dim // HALVES, config_file)
    return facts, {
        "vocab": whole("vocab_size"),
        "hidden": hidden,
        "inter": whole("intermediate_size"),
        "kv_heads": kv_heads,
        "q_per_kv": heads // kv_heads,
        "halves": HALVES,
        "pairs": head_dim // HALVES,
        "head_dim": head_dim,
        "score": 1,
        "layers": layers,
    }


def _check_scaling(facts: Facts, pairs: int, config_file: str) -> None:
    if "rope_scaling" in facts:
        try:
            check_pairs(facts["rope_scaling"].value, pairs)
        except ValueError as error:
            raise IntegrityError(f"no sense can be made of rope_scaling: {error}", config_file) from error


def _whole(facts: Facts, where: str, name: str) -> int:
    value = facts[name].value
    if type(value) is not int or not 0 < value < MOST.get(name, MAX_COUNT):
        raise IntegrityError(f"{name} is {shown(value)}, not a number of anything", where)
    return value


def _solve(layout: Layout, axis: str, stored: Stored, grid: Grid, where: str) -> int:
    for row in layout.rows:
        for dim, axes in enumerate(row.dims):
            if axes != (axis,) or row.when:
                continue
            place = (0, grid.pp - 1 if row.place == "last" else 0)
            tensor = stored[place].get(row.stored[0].replace(".N.", ".0."))
            if tensor is not None and dim < len(tensor.shape):
                return tensor.shape[dim] * (grid.tp if row.split == axis else 1)
    raise IntegrityError(f"no tensor says how long the axis {axis} is", where)
