"""Other values: lost, doubled, rounded, read as what they are not. Most have no inverse.

All take tensors in float32, whatever the file holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tests.smoke.seeded import EMBEDDING, HEAD, NORM, NORMS, Seed, Shape, key
from tools.mutation_score.subject import ImpossibleError, Tensors

Values = Callable[[np.ndarray, Shape], np.ndarray]


def everywhere(names: Sequence[str], change: Values, leaf: str = "weight") -> Seed:
    """In all layers."""
    return lambda tensors, shape: _each(tensors, shape, range(shape.layers), names, change, leaf)


def middle(names: Sequence[str], change: Values, leaf: str = "weight") -> Seed:
    """In the middle layer."""
    return lambda tensors, shape: _each(tensors, shape, [shape.layers // 2], names, change, leaf)


def _each(
    tensors: Tensors, shape: Shape, where: Iterable[int], names: Sequence[str], change: Values, leaf: str
) -> None:
    found = [key(layer, name, leaf) for layer in where for name in names]
    for name in found:
        if name in tensors:
            tensors[name] = change(tensors[name], shape).astype(np.float32)


def one(name: str, change: Values) -> Seed:
    def seed(tensors: Tensors, shape: Shape) -> None:
        if name not in tensors:
            raise ImpossibleError(name)
        tensors[name] = change(tensors[name], shape).astype(np.float32)

    return seed


def all_norms(change: Values) -> Seed:
    def seed(tensors: Tensors, shape: Shape) -> None:
        everywhere(NORMS, change)(tensors, shape)
        one(NORM, change)(tensors, shape)

    return seed


def zeros(array: np.ndarray, shape: Shape) -> np.ndarray:
    return np.zeros_like(array)


def ones(array: np.ndarray, shape: Shape) -> np.ndarray:
    return np.ones_like(array)


def minus_one(array: np.ndarray, shape: Shape) -> np.ndarray:
    return array - 1


def negative(array: np.ndarray, shape: Shape) -> np.ndarray:
    return -array


def times(factor: float) -> Values:
    return lambda array, shape: array * factor


def by_root_of_dim(array: np.ndarray, shape: Shape) -> np.ndarray:
    """Scores are divided by the root of a head's size in attention already."""
    return array / shape.dim**0.5


def by_root_of_width(array: np.ndarray, shape: Shape) -> np.ndarray:
    return array * array.shape[1] ** 0.5


def last_quarter_of_rows_zero(array: np.ndarray, shape: Shape) -> np.ndarray:
    made = array.copy()
    made[-len(array) // 4 :] = 0
    return made


def last_half_of_columns_zero(array: np.ndarray, shape: Shape) -> np.ndarray:
    made = array.copy()
    made[:, array.shape[1] // 2 :] = 0
    return made


def first_half_of_columns_twice(array: np.ndarray, shape: Shape) -> np.ndarray:
    half = array.shape[1] // 2
    return np.concatenate([array[:, :half], array[:, :half]], 1)


def first_half_of_rows_twice(array: np.ndarray, shape: Shape) -> np.ndarray:
    half = len(array) // 2
    return np.concatenate([array[:half], array[:half]])


def random(array: np.ndarray, shape: Shape) -> np.ndarray:
    """Of the same mean and spread."""
    return np.random.default_rng(0).normal(array.mean(), array.std(), array.shape)


def not_a_number(array: np.ndarray, shape: Shape) -> np.ndarray:
    made = array.copy()
    made.reshape(-1)[array.size // 2] = np.nan
    return made


def rounded(levels: int) -> Values:
    """To so many steps on each side of zero, one scale for all of a matrix."""

    def change(array: np.ndarray, shape: Shape) -> np.ndarray:
        step = np.abs(array).max() / levels
        return np.round(array / step) * step

    return change


def clipped(array: np.ndarray, shape: Shape) -> np.ndarray:
    """To two standard deviations."""
    return np.clip(array, -2 * array.std(), 2 * array.std())


def _halves(array: np.ndarray) -> np.ndarray:
    """The bits of bfloat16."""
    return (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def as_float16(array: np.ndarray, shape: Shape) -> np.ndarray:
    """bfloat16 read as float16; what is no number there becomes zero."""
    return np.nan_to_num(_halves(array).view(np.float16).astype(np.float32), posinf=0, neginf=0)


def bytes_exchanged(array: np.ndarray, shape: Shape) -> np.ndarray:
    """bfloat16 of the other byte order; what is no number there, or huge, becomes zero."""
    made = (_halves(array).byteswap().astype(np.uint32) << 16).view(np.float32)
    return np.where(np.isfinite(made) & (np.abs(made) < 1e4), made, 0)


def one_place_on(array: np.ndarray, shape: Shape) -> np.ndarray:
    """Read from one element too late."""
    return np.roll(array.reshape(-1), -1).reshape(array.shape)


def copied_layer(tensors: Tensors, shape: Shape) -> None:
    """The middle layer is what the one before it is."""
    target, source = f"model.layers.{shape.layers // 2}.", f"model.layers.{shape.layers // 2 - 1}."
    for name in [name for name in tensors if name.startswith(target)]:
        tensors[name] = tensors[source + name.removeprefix(target)].copy()


def head_is_embedding(tensors: Tensors, shape: Shape) -> None:
    if HEAD not in tensors:
        raise ImpossibleError(HEAD)
    tensors[HEAD] = tensors[EMBEDDING].copy()
