"""What a target's format cannot say, refused by name or number."""

from __future__ import annotations

from collections.abc import Mapping

from converters.errors import UnsupportedError, UsageError
from converters.geometry.cells import Grid, cells
from converters.layouts.llama import TIED
from converters.layouts.table import Layout
from converters.planning.choices import normalised
from converters.source.checkpoint import Checkpoint
from converters.source.tied import HEAD, is_tied


def check_expressible(layout: Layout, choices: Mapping[str, object], source: Checkpoint) -> None:
    sizes = source.sizes
    if "$num_kv_heads" not in layout.template.values() and sizes["q_per_kv"] != 1:
        raise UnsupportedError(
            f"{layout.name} has as many key/value heads as query heads, not {sizes['kv_heads']} for "
            f"{sizes['kv_heads'] * sizes['q_per_kv']}",
            "num_kv_heads",
        )
    if "$head_dim" not in layout.template.values():
        heads, hidden = sizes["kv_heads"] * sizes["q_per_kv"], sizes["hidden"]
        if heads * sizes["head_dim"] != hidden:
            what = f"{layout.name} has heads of hidden_size / heads dimensions, not {sizes['head_dim']}"
            raise UnsupportedError(what, "head_dim")
    one = Grid(1, (range(sizes["layers"]),))
    held = {slab.logical for cell in cells(layout, choices, sizes, one) for slab in cell.slabs}
    for name in source.own if is_tied(choices) else source.tensors:
        if name not in held:
            raise UnsupportedError(f"{layout.name} has no place for {name}", source.path)
    for name in sorted(held - source.tensors.keys()):
        raise UnsupportedError(f"{layout.name} needs {name}, which the checkpoint does not have", source.path)


def check_tied(choices: Mapping[str, object], source: Checkpoint) -> None:
    if not is_tied(choices):
        return
    if normalised(source, choices):
        raise UnsupportedError(
            "a head whose rows are normalised is not the embedding", "norm_head", f"leave out {TIED}"
        )
    if HEAD in source.own:
        what = "the source has a head of its own, so the target's cannot be the embedding"
        raise UsageError(what, TIED, "open the source with the same fact")
