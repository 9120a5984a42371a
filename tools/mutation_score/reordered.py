"""Things in another order in a part of a model: one layer, two layers, two heads, some rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tests.smoke.seeded import EMBEDDING, Rows, Seed, Shape, heads, layers, rows
from tools.mutation_score.subject import Tensors


def in_one_layer(seed: Seed) -> Seed:
    """What a seed does within layers, in the middle one alone."""

    def change(tensors: Tensors, shape: Shape) -> None:
        made = dict(tensors)
        seed(made, shape)
        prefix = f"model.layers.{shape.layers // 2}."
        tensors.update({name: array for name, array in made.items() if name.startswith(prefix)})

    return change


def two_layers(names: Iterable[str]) -> Seed:
    """The middle one and the one before it, exchanged."""

    def order(shape: Shape) -> Sequence[int]:
        middle = shape.layers // 2
        return [*range(middle - 1), middle, middle - 1, *range(middle + 1, shape.layers)]

    return lambda tensors, shape: layers(tensors, shape, order, names)


def two_heads(names: Sequence[str]) -> Seed:
    """The first two, exchanged, in every layer."""

    def change(array: np.ndarray, shape: Shape) -> np.ndarray:
        made = array.copy()
        made[: shape.dim], made[shape.dim : 2 * shape.dim] = (
            array[shape.dim : 2 * shape.dim],
            array[: shape.dim],
        )
        return made

    return lambda tensors, shape: rows(tensors, shape, names, change)


def first_and_last_group(array: np.ndarray, shape: Shape) -> np.ndarray:
    """The queries of the first and of the last group of heads, exchanged."""
    order = [*range(shape.heads)]
    first, last = slice(0, shape.group), slice(shape.heads - shape.group, shape.heads)
    order[first], order[last] = order[last], order[first]
    return heads(lambda _: order)(array, shape)


def upper_half_backwards(array: np.ndarray, shape: Shape) -> np.ndarray:
    half = len(array) // 2
    return np.concatenate([array[:half], array[half:][::-1]])


def blocks_of_64(array: np.ndarray, shape: Shape) -> np.ndarray:
    """Neighbouring blocks of 64 rows exchanged, as tiles that were written out of turn."""
    made = array.copy()
    for at in range(0, len(array) - 127, 128):
        made[at : at + 64], made[at + 64 : at + 128] = array[at + 64 : at + 128], array[at : at + 64]
    return made


def within_layers(names: Sequence[str], change: Rows) -> Seed:
    return lambda tensors, shape: rows(tensors, shape, names, change, ["weight"])


def of_embedding(change: Rows) -> Seed:
    def seed(tensors: Tensors, shape: Shape) -> None:
        tensors[EMBEDDING] = change(tensors[EMBEDDING], shape)

    return seed
