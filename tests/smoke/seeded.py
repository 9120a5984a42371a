"""The mistakes of the table, made: by loops over rows of arrays, without the code that looks for them.

Every function takes the tensors of a model in llama format and makes one mistake in all of its layers. What
the shape of a model does not allow changes nothing, changes the shape of a tensor, or raises ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tests.loading.demo import MODELS, Tensors

PATHS = {
    **{name: f"self_attn.{name}_proj" for name in "qkvo"},
    **{name: f"mlp.{name}_proj" for name in ("gate", "up", "down")},
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
ATTENTION, NORMS = ("q", "k", "v", "o"), ("attention_norm", "ffn_norm")
ALL = (*ATTENTION, "gate", "up", "down", *NORMS)
BOTH = ("weight", "bias")
EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"


@dataclass(frozen=True)
class Shape:
    """dim: of a head. group: heads of q for one of k and v."""

    layers: int
    heads: int
    kv: int
    dim: int

    @property
    def group(self) -> int:
        return self.heads // self.kv


SHAPES = dict(zip(MODELS, (Shape(4, 8, 8, 16), Shape(4, 8, 4, 16)), strict=True))

Seed = Callable[[Tensors, Shape], None]
Rows = Callable[[np.ndarray, Shape], np.ndarray]
Order = Callable[[Shape], Sequence[int]]


def key(layer: int, name: str, leaf: str = "weight") -> str:
    return f"model.layers.{layer}.{PATHS[name]}.{leaf}"


def put(tensors: Tensors, places: Sequence[str], found: Sequence[str]) -> None:
    """Into each place what stood at another."""
    stood = [tensors[name] for name in found]
    tensors.update(zip(places, stood, strict=True))


def stand(tensors: Tensors, shape: Shape, names: str, leaves: Iterable[str] = BOTH) -> None:
    """'k v q': in the places of q, k and v."""
    found = names.split()
    for layer in range(shape.layers):
        for leaf in leaves:
            if key(layer, found[0], leaf) in tensors:
                places = sorted(found, key=ALL.index)
                put(tensors, [key(layer, n, leaf) for n in places], [key(layer, n, leaf) for n in found])


def layers(
    tensors: Tensors, shape: Shape, order: Order, names: Iterable[str], leaves: Iterable[str] = BOTH
) -> None:
    """order: which layer's stands in the place of each."""
    for name in names:
        for leaf in leaves:
            if key(0, name, leaf) in tensors:
                places = [key(layer, name, leaf) for layer in range(shape.layers)]
                put(tensors, places, [places[layer] for layer in order(shape)])


def one_early(shape: Shape) -> list[int]:
    return [*range(1, shape.layers), 0]


def one_late(shape: Shape) -> list[int]:
    return [shape.layers - 1, *range(shape.layers - 1)]


def backwards(shape: Shape) -> list[int]:
    return [*reversed(range(shape.layers))]


def halves_exchanged(shape: Shape) -> list[int]:
    half = shape.layers // 2
    return [*range(half, shape.layers), *range(half)]


def next_exchanged(shape: Shape) -> list[int]:
    return [layer ^ 1 for layer in range(shape.layers)]


def dealt(shape: Shape) -> list[int]:
    return [*range(0, shape.layers, 2), *range(1, shape.layers, 2)]


def norms(tensors: Tensors, shape: Shape, by: int) -> None:
    places = [key(layer, name) for layer in range(shape.layers) for name in NORMS] + [NORM]
    put(tensors, places, places[by:] + places[:by])


def rows(
    tensors: Tensors, shape: Shape, names: Iterable[str], change: Rows, leaves: Iterable[str] = BOTH
) -> None:
    for layer in range(shape.layers):
        for name in names:
            for leaf in leaves:
                if key(layer, name, leaf) in tensors:
                    tensors[key(layer, name, leaf)] = change(tensors[key(layer, name, leaf)], shape).copy()


def columns(tensors: Tensors, shape: Shape, name: str, change: Rows) -> None:
    rows(tensors, shape, [name], lambda matrix, shape: change(matrix.T, shape).T, ["weight"])


def joined(
    tensors: Tensors,
    shape: Shape,
    names: Sequence[str],
    change: Callable[[list[np.ndarray], Shape], np.ndarray],
) -> None:
    """change: what all of them become, one after the other."""
    for layer in range(shape.layers):
        for leaf in BOTH:
            keys = [key(layer, name, leaf) for name in names]
            if keys[0] in tensors:
                made, at = change([tensors[one] for one in keys], shape), 0
                for one in keys:
                    size = len(tensors[one])
                    tensors[one] = made[at : at + size].copy()
                    at += size


def whole(name: str, change: Rows) -> Seed:
    def seed(tensors: Tensors, shape: Shape) -> None:
        tensors[name] = change(tensors[name], shape).copy()

    return seed


def to_pairs(array: np.ndarray, shape: Shape) -> np.ndarray:
    made, half = array.copy(), shape.dim // 2
    for head in range(0, len(array), shape.dim):
        for i in range(half):
            made[head + 2 * i], made[head + 2 * i + 1] = array[head + i], array[head + half + i]
    return made


def to_halves(array: np.ndarray, shape: Shape) -> np.ndarray:
    made, half = array.copy(), shape.dim // 2
    for head in range(0, len(array), shape.dim):
        for i in range(half):
            made[head + i], made[head + half + i] = array[head + 2 * i], array[head + 2 * i + 1]
    return made


def exchanged_halves(array: np.ndarray, shape: Shape) -> np.ndarray:
    made = array.copy()
    for head in range(0, len(array), shape.dim):
        made[head : head + shape.dim] = np.roll(array[head : head + shape.dim], shape.dim // 2, 0)
    return made


def early(array: np.ndarray, shape: Shape) -> np.ndarray:
    return np.concatenate([array[1:], array[:1]])


def late(array: np.ndarray, shape: Shape) -> np.ndarray:
    return np.concatenate([array[-1:], array[:-1]])


def head_early(array: np.ndarray, shape: Shape) -> np.ndarray:
    return np.concatenate([array[shape.dim :], array[: shape.dim]])


def head_late(array: np.ndarray, shape: Shape) -> np.ndarray:
    return np.concatenate([array[-shape.dim :], array[: -shape.dim]])


def parts(array: np.ndarray, count: int) -> list[np.ndarray]:
    return np.split(array, count)


def ranks(count: int) -> Rows:
    return lambda array, shape: np.concatenate(parts(array, count)[::-1])


def rank_columns(count: int) -> Rows:
    return lambda array, shape: np.concatenate(parts(array.T, count)[::-1]).T


def heads(order: Order) -> Rows:
    """order: which head stands in the place of each."""
    return lambda array, shape: np.concatenate([parts(array, shape.heads)[head] for head in order(shape)])


def across(shape: Shape) -> list[int]:
    return [kv * shape.group + member for member in range(shape.group) for kv in range(shape.kv)]


def twice(shape: Shape) -> list[int]:
    return [across(shape).index(head) for head in range(shape.heads)]


def group_backwards(shape: Shape) -> list[int]:
    return [kv * shape.group + member for kv in range(shape.kv) for member in reversed(range(shape.group))]


def fused(found: list[np.ndarray], shape: Shape) -> np.ndarray:
    """q, k and v by kv groups."""
    q, k, v = (parts(one, len(one) // shape.dim) for one in found)
    size = shape.group
    return np.concatenate(
        [head for n in range(len(k)) for head in (*q[n * size : (n + 1) * size], k[n], v[n])]
    )


def cut_by_groups(found: list[np.ndarray], shape: Shape) -> np.ndarray:
    all_heads = [head for one in found for head in parts(one, len(one) // shape.dim)]
    size = len(all_heads) // shape.kv
    groups = [all_heads[n * size : (n + 1) * size] for n in range(shape.kv)]
    q = [head for group in groups for head in group[:-2]]
    return np.concatenate([*q, *(group[-2] for group in groups), *(group[-1] for group in groups)])


def rank_by_rank(count: int) -> Callable[[list[np.ndarray], Shape], np.ndarray]:
    return lambda found, shape: np.concatenate(
        [part for rank in range(count) for part in (parts(one, count)[rank] for one in found)]
    )


def in_turn(found: list[np.ndarray], shape: Shape) -> np.ndarray:
    return np.stack([row for pair in zip(*found, strict=True) for row in pair])


def taken_in_turn(found: list[np.ndarray], shape: Shape) -> np.ndarray:
    together = np.concatenate(found)
    return np.concatenate([together[0::2], together[1::2]])


def turned(tensors: Tensors, shape: Shape, names: Iterable[str]) -> None:
    rows(tensors, shape, names, lambda matrix, shape: matrix.T, ["weight"])


QKV, GU = ("q", "k", "v"), ("gate", "up")
QK, KV_HEADS = ("q", "k"), ("k", "v")
BIAS = ["bias"]
SEEDS: dict[str, Seed] = {
    "k and v are exchanged": partial(stand, names="v k"),
    "gate and up are exchanged": partial(stand, names="up gate"),
    "q and k are exchanged": partial(stand, names="k q"),
    "q and v are exchanged": partial(stand, names="v q"),
    "q and o are exchanged": partial(stand, names="o q"),
    "k, v and q stand for q, k and v": partial(stand, names="k v q"),
    "v, q and k stand for q, k and v": partial(stand, names="v q k"),
    "the norms of attention and MLP are exchanged": partial(stand, names="ffn_norm attention_norm"),
    "the biases of k and v are exchanged": partial(stand, names="v k", leaves=BIAS),
    "the biases of q and k are exchanged": partial(stand, names="k q", leaves=BIAS),
    "the biases of q and o are exchanged": partial(stand, names="o q", leaves=BIAS),
    "the layers stand one place early": partial(layers, order=one_early, names=ALL),
    "the layers stand one place late": partial(layers, order=one_late, names=ALL),
    "the layers are in reverse order": partial(layers, order=backwards, names=ALL),
    "the halves of the layers are exchanged": partial(layers, order=halves_exchanged, names=ALL),
    "every second layer is exchanged with the next": partial(layers, order=next_exchanged, names=ALL),
    "the layers are dealt to two stages in turn": partial(layers, order=dealt, names=ALL),
    "attention stands one layer early": partial(layers, order=one_early, names=ATTENTION),
    "attention stands one layer late": partial(layers, order=one_late, names=ATTENTION),
    "the norms stand one layer early": partial(layers, order=one_early, names=NORMS),
    "the norms stand one layer late": partial(layers, order=one_late, names=NORMS),
    "attention's norms stand one layer early": partial(layers, order=one_early, names=NORMS[:1]),
    "attention's norms stand one layer late": partial(layers, order=one_late, names=NORMS[:1]),
    "the MLP's norms stand one layer early": partial(layers, order=one_early, names=NORMS[1:]),
    "the MLP's norms stand one layer late": partial(layers, order=one_late, names=NORMS[1:]),
    "all norms stand one place early": partial(norms, by=1),
    "all norms stand one place late": partial(norms, by=-1),
    "the biases stand one layer early": partial(layers, order=one_early, names=ATTENTION, leaves=BIAS),
    "the biases stand one layer late": partial(layers, order=one_late, names=ATTENTION, leaves=BIAS),
    "embedding and head are exchanged": lambda tensors, shape: put(
        tensors, [EMBEDDING, HEAD], [HEAD, EMBEDDING]
    ),
    "o is transposed": partial(turned, names=["o"]),
    "q is transposed": partial(turned, names=["q"]),
    "q, k, v and o are transposed": partial(turned, names=ATTENTION),
    "q and k are in rotary pairs, not halves": partial(rows, names=QK, change=to_pairs),
    "q and k were taken from pairs to halves twice": partial(rows, names=QK, change=to_halves),
    "q is in rotary pairs, not halves": partial(rows, names=["q"], change=to_pairs),
    "q was taken from pairs to halves twice": partial(rows, names=["q"], change=to_halves),
    "k is in rotary pairs, not halves": partial(rows, names=["k"], change=to_pairs),
    "k was taken from pairs to halves twice": partial(rows, names=["k"], change=to_halves),
    "the biases of q and k are in rotary pairs": partial(rows, names=QK, change=to_pairs, leaves=BIAS),
    "the biases of q and k were taken to halves twice": partial(
        rows, names=QK, change=to_halves, leaves=BIAS
    ),
    "v was put into rotary pairs": partial(rows, names=["v"], change=to_pairs),
    "v was taken from rotary pairs to halves": partial(rows, names=["v"], change=to_halves),
    "the rotary halves of q and k are exchanged": partial(rows, names=QK, change=exchanged_halves),
    "the rotary halves of q are exchanged": partial(rows, names=["q"], change=exchanged_halves),
    "the rotary halves of k are exchanged": partial(rows, names=["k"], change=exchanged_halves),
    "the heads of q stand one place early": partial(rows, names=["q"], change=head_early),
    "the heads of q stand one place late": partial(rows, names=["q"], change=head_late),
    "the heads of k stand one place early": partial(rows, names=["k"], change=head_early),
    "the heads of k stand one place late": partial(rows, names=["k"], change=head_late),
    "the heads of v stand one place early": partial(rows, names=["v"], change=head_early),
    "the heads of v stand one place late": partial(rows, names=["v"], change=head_late),
    "the heads of k and v stand one place early": partial(rows, names=KV_HEADS, change=head_early),
    "the heads of k and v stand one place late": partial(rows, names=KV_HEADS, change=head_late),
    "the heads of o stand one place early": partial(columns, name="o", change=head_early),
    "the heads of o stand one place late": partial(columns, name="o", change=head_late),
    "the heads of q are not in the order of kv groups": partial(rows, names=["q"], change=heads(across)),
    "the heads of q were put into kv groups twice": partial(rows, names=["q"], change=heads(twice)),
    "the heads of each kv group of q are in reverse order": partial(
        rows, names=["q"], change=heads(group_backwards)
    ),
    "the fused wqkv was cut as q, k, v and is by kv groups": partial(joined, names=QKV, change=fused),
    "the fused wqkv was cut by kv groups and is q, k, v": partial(joined, names=QKV, change=cut_by_groups),
    "two ranks of q, k and v were put together whole": partial(joined, names=QKV, change=rank_by_rank(2)),
    "four ranks of q, k and v were put together whole": partial(joined, names=QKV, change=rank_by_rank(4)),
    "two ranks of gate and up were put together whole": partial(joined, names=GU, change=rank_by_rank(2)),
    "four ranks of gate and up were put together whole": partial(joined, names=GU, change=rank_by_rank(4)),
    "gate and up are row by row in turn": partial(joined, names=GU, change=in_turn),
    "gate and up were taken as row by row in turn": partial(joined, names=GU, change=taken_in_turn),
    "two ranks of gate are exchanged": partial(rows, names=["gate"], change=ranks(2)),
    "two ranks of the MLP's down are exchanged": partial(columns, name="down", change=ranks(2)),
    "four ranks of the MLP's down are in reverse order": partial(columns, name="down", change=ranks(4)),
    "two ranks of o are exchanged": partial(columns, name="o", change=ranks(2)),
    "four ranks of o are in reverse order": partial(columns, name="o", change=ranks(4)),
    "two ranks of the head are exchanged": whole(HEAD, ranks(2)),
    "four ranks of the head are in reverse order": whole(HEAD, ranks(4)),
    "two ranks of the embedding's rows are exchanged": whole(EMBEDDING, ranks(2)),
    "two ranks of the embedding's columns are exchanged": whole(EMBEDDING, rank_columns(2)),
    "four ranks of the embedding's columns are in reverse order": whole(EMBEDDING, rank_columns(4)),
    "the rows of the embedding stand one place early": whole(EMBEDDING, early),
    "the rows of the embedding stand one place late": whole(EMBEDDING, late),
    "the rows of the head stand one place early": whole(HEAD, early),
    "the rows of the head stand one place late": whole(HEAD, late),
}
