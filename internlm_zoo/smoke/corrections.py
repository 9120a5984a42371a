"""Applies a correction of the table to the model in memory, and takes it back.

No value is written: a parameter is made to hold another tensor, and afterwards the one that it held. So
nothing is lost whatever happens, and files that are mapped stay as they are. Memory: of what a correction
reorders within tensors a second copy, as long as it is applied; of whole tensors none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import TYPE_CHECKING

import torch

from internlm_zoo.smoke.mistakes import Correction, Flip, Lines, Places, Roll, Slabs, Step, Transpose, Turned

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_IN_LAYER = {
    **{name: f"self_attn.{name}_proj" for name in ("q", "k", "v", "o")},
    **{name: f"mlp.{name}_proj" for name in ("gate", "up", "down")},
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_BEYOND = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
_LEAVES = ("weight", "bias")

Change = tuple[torch.nn.Parameter, torch.Tensor]


@contextmanager
def corrected(model: PreTrainedModel, correction: Correction, layers: Sequence[int]) -> Iterator[bool]:
    """Meanwhile the model is as if the mistake had not been made in these layers; afterwards it is bit for
    bit what it was. Gives False, and changes nothing, where its shapes do not allow that mistake."""
    changes = _changes(model, correction, layers)
    before = [(parameter, parameter.data) for parameter, _ in changes]
    try:
        for parameter, value in changes:
            parameter.data = value.to(parameter.device)
        yield bool(changes)
    finally:
        for parameter, value in before:
            parameter.data = value


def some_layers(correction: Correction, count: int) -> Iterable[tuple[int, ...]]:
    """In which layers alone the mistake may be made, one by one or in two that change places. Whole tensors
    and rotary pairs only: all else would be hundreds of attempts."""
    step = None if isinstance(correction, Turned) else correction.step
    if isinstance(correction, Places) and step == Roll("layers"):
        return combinations(range(count), 2)
    exchange = isinstance(correction, Places) and step == Roll("tensors")
    rotary = isinstance(correction, Lines) and "half" in correction.axes.split()
    return combinations(range(count), 1) if exchange or rotary else ()


def _changes(model: PreTrainedModel, correction: Correction, layers: Sequence[int]) -> list[Change]:
    """Which parameter is to hold what; none where the correction makes no sense of the model."""
    if _is_tied(model) and correction.tensors in ("head", "embedding head"):
        return []
    sizes: dict[str, int] = _sizes(model, layers)
    changes: list[Change] = []
    for leaf in _LEAVES:
        made = _of_leaf(correction, _parameters(model, correction.tensors, layers, leaf), sizes)
        if made is None:
            return []
        changes += made
    return changes


def _of_leaf(
    correction: Correction, rows: list[list[torch.nn.Parameter]], sizes: Mapping[str, int]
) -> list[Change] | None:
    """rows: of each layer the parameters, then a row of those beyond. None: impossible."""
    if not rows:
        return []
    each = [one for row in rows for one in row]
    if isinstance(correction, Turned):
        return _turned(each)
    if isinstance(correction, Places):
        return _places(correction, each, {**sizes, "tensors": len(rows[0])})
    made = [
        _lines(correction, row, sizes) for row in (rows if correction.joined else [[one] for one in each])
    ]
    return None if None in made else [change for one in made if one for change in one]


def _places(
    correction: Places, parameters: list[torch.nn.Parameter], sizes: Mapping[str, int]
) -> list[Change] | None:
    order = _order(correction.axes, correction.step, len(parameters), sizes)
    if order is None:
        return None
    pairs = [(parameters[to], parameters[source]) for to, source in enumerate(order.tolist()) if to != source]
    if any(to.shape != source.shape for to, source in pairs):
        return None
    return [(to, source.data) for to, source in pairs]


def _lines(
    correction: Lines, parameters: list[torch.nn.Parameter], sizes: Mapping[str, int]
) -> list[Change] | None:
    axis = int(correction.columns)
    if axis and parameters[0].dim() == 1:
        return []  # a bias has no columns
    if len({_without(one.shape, axis) for one in parameters}) > 1:
        return None
    lengths = [one.shape[axis] for one in parameters]
    order = _order(correction.axes, correction.step, sum(lengths), sizes)
    if order is None:
        return None
    together = (
        torch.cat([one.data for one in parameters], axis) if len(parameters) > 1 else parameters[0].data
    )
    moved = together.index_select(axis, order.to(together.device))
    return list(zip(parameters, moved.split(lengths, axis), strict=True))


def _turned(parameters: list[torch.nn.Parameter]) -> list[Change] | None:
    matrices = [one for one in parameters if one.dim() == 2]
    if any(one.shape[0] != one.shape[1] for one in matrices):
        return None
    return [(one, one.data.t()) for one in matrices]


def _order(axes: str, step: Step, length: int, sizes: Mapping[str, int]) -> torch.Tensor | None:
    """For each line the one that belongs there; None if they cannot be counted so, or if all are in place."""
    names = axes.split()
    counts = [int(name) if name.isdigit() else sizes.get(name, 0) for name in names]
    known = math.prod(count for count in counts if count)
    if length % known or ("rest" not in names and known != length):
        return None
    index = torch.arange(length).reshape([count or length // known for count in counts])
    moved = _moved(index, names, step).reshape(-1)
    return None if bool((moved == torch.arange(length)).all()) else moved


def _moved(index: torch.Tensor, names: list[str], step: Step) -> torch.Tensor:
    if isinstance(step, Transpose):
        return index.permute([names.index(name) for name in step.to.split()])
    if isinstance(step, Roll):
        return index.roll(step.by, names.index(step.axis))
    if isinstance(step, Flip):
        return index.flip(names.index(step.axis))
    assert isinstance(step, Slabs)
    slabs = torch.cat([index[:, :-2].reshape(-1), index[:, -2].reshape(-1), index[:, -1].reshape(-1)])
    return slabs.argsort() if step.back else slabs


def _sizes(model: PreTrainedModel, layers: Sequence[int]) -> dict[str, int]:
    config = model.config
    heads, kv = config.num_attention_heads, config.num_key_value_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    group = heads // kv
    counts = {"heads": heads, "kv": kv, "group": group, "fused": group + 2}
    return {**counts, "dim": dim, "two": 2, "half": dim // 2, "layers": len(layers)}


def _parameters(
    model: PreTrainedModel, tensors: str, layers: Sequence[int], leaf: str
) -> list[list[torch.nn.Parameter]]:
    """Of each layer, and of what is beyond them, the parameters of that leaf; no row where there are none."""
    named = [name.partition(".") for name in tensors.split()]
    asked = [name for name, _, only in named if not only or only == leaf]
    inside = [_IN_LAYER[name] for name in asked if name in _IN_LAYER]
    rows = [[f"model.layers.{layer}.{path}" for path in inside] for layer in layers if inside]
    rows.append([_BEYOND[name] for name in asked if name in _BEYOND])
    found = [[getattr(model.get_submodule(path), leaf, None) for path in row] for row in rows]
    present = [[one for one in row if one is not None] for row in found]
    return [row for row in present if row]


def _is_tied(model: PreTrainedModel) -> bool:
    head = getattr(model, "lm_head", None)
    return head is not None and head.weight is model.model.embed_tokens.weight


def _without(shape: torch.Size, axis: int) -> tuple[int, ...]:
    return tuple(shape[:axis]) + tuple(shape[axis + 1 :])
