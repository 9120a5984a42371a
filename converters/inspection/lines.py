"""How large the rows and the columns of a matrix are: what its values hide one by one.

Of independent random numbers, whatever their distribution, all rows are equally large but for chance: the
squares of one add up to a sum whose variance is as many times that of one square as the row is long. Training
makes some rows and columns matter more than others, many times beyond that.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

PARTS = 8
_FEWEST = 8  # lines of a part: of fewer the middling one may be any

Squares = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Lines:
    """zero_rows: stretches of rows that are zero, each as its first row and the one after its last.
    row_parts, column_parts: root mean square of a middling row (column) of each eighth of them, empty where
    an eighth has fewer than eight. row_spread, column_spread: variance of the squared lengths of rows
    (columns), over that of independent random numbers of the same distribution; None where all values are of
    one size."""

    zero_rows: tuple[tuple[int, int], ...] = ()
    row_parts: tuple[float, ...] = ()
    column_parts: tuple[float, ...] = ()
    row_spread: float | None = None
    column_spread: float | None = None


class LineSums:
    """Adds up squares by row and by column, some rows at a time."""

    def __init__(self, width: int) -> None:
        self._columns = np.zeros(width)
        self._rows: list[Squares] = []
        self._fourths = 0.0

    def add(self, squares: Squares) -> float:
        """squares: [rows, width]. Returns their sum."""
        rows = squares.sum(axis=1)
        self._rows.append(rows)
        self._columns += squares.sum(axis=0)
        self._fourths += float(np.einsum("ij,ij->", squares, squares))  # vdot would start BLAS's threads
        return float(rows.sum())

    def result(self) -> Lines:
        rows, columns = np.concatenate(self._rows), self._columns
        return Lines(
            tuple(_stretches(np.flatnonzero(rows == 0).tolist())),
            _parts(rows, len(columns)),
            _parts(columns, len(rows)),
            self._spread(rows, len(columns)),
            self._spread(columns, len(rows)),
        )

    def _spread(self, sums: Squares, each: int) -> float | None:
        """sums: of the squares of lines of `each` values."""
        count = len(sums) * each
        by_chance = each * (self._fourths / count - (float(sums.sum()) / count) ** 2)
        return float(sums.var()) / by_chance if by_chance > 0 else None


def _parts(sums: Squares, each: int) -> tuple[float, ...]:
    if len(sums) % PARTS or len(sums) < PARTS * _FEWEST:
        return ()
    return tuple(np.median(np.sqrt(sums / each).reshape(PARTS, -1), axis=1).tolist())


def _stretches(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Consecutive numbers as their first, and the one after their last."""
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        yield run[0], run[-1] + 1
