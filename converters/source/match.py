"""Holds the stored tensors of a checkpoint against its layout: each in its place, of its shape, no other.

What config and options leave open (which of w2 and w3 is up, how the embedding is cut, ...) is decided by
trying each combination; exactly one may fit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from converters.config.facts import Facts, missing
from converters.containers.container import Place, StoredFile
from converters.errors import IntegrityError, UnsupportedError, UsageError, ZooError
from converters.formats.tensors import StoredTensor
from converters.geometry.cells import Cell, Grid, cells, check_divisible, uneven
from converters.geometry.logical import Sizes
from converters.layouts.table import Layout
from converters.values import shown

Stored = Mapping[Place, Mapping[str, StoredTensor]]
"""Stored tensors by place and by name as the layout spells it."""


@dataclass(frozen=True)
class Match:
    """choices: what was settled. pairs: every cell with the tensor that fills it."""

    choices: Mapping[str, object]
    pairs: tuple[tuple[Cell, StoredTensor], ...]


@dataclass(frozen=True)
class Mismatch:
    """A stored tensor that is not as the layout has it. absent: whether it is one that is not there. surplus:
    whether it is one that the layout does not know."""

    what: str
    where: str
    absent: bool = False
    surplus: bool = False


def by_place(layout: Layout, files: Mapping[Place, tuple[StoredFile, ...]]) -> tuple[Stored, tuple[str, ...]]:
    """The tensors under the names of the layout, and the computed buffers that were left out (`.inv_freq`).

    Raises IntegrityError if two files of a place hold the same name.
    """
    stored: dict[Place, dict[str, StoredTensor]] = {}
    dropped: list[str] = []
    for place, members in files.items():
        found = stored.setdefault(place, {})
        for tensor in (tensor for file in members for tensor in file.tensors.values()):
            name = tensor.name.removeprefix(layout.prefix)
            if name.endswith(".inv_freq"):
                dropped.append(tensor.name)
            elif name in found:
                raise IntegrityError(f"{name} is stored twice", tensor.file)
            else:
                found[name] = tensor
    return stored, tuple(dropped)


def match(layout: Layout, facts: Facts, sizes: Sizes, grid: Grid, stored: Stored, where: str) -> Match:
    """The one way in which the layout fits.

    Raises UnsupportedError if the grid cuts what cannot be cut so, IntegrityError naming tensor, file, shape
    found and expected if no way fits, UsageError naming the choice to be given if more than one does.
    """
    combinations = list(_combinations(layout, facts))
    candidates = list(_candidates(layout, combinations, sizes, grid))
    if not candidates:
        check_divisible(layout, combinations[0], sizes, grid.tp, where)
    fitting: dict[tuple[Cell, ...], Mapping[str, object]] = {}
    for choices, expected in candidates:
        if next(_mismatches(expected, stored, where), None) is None:
            fitting.setdefault(expected, choices)  # choices that come to the same are one way
    if not fitting:
        raise _refusal(_closest([expected for _, expected in candidates], stored, where))
    (expected, choices), *others = fitting.items()
    if others:
        raise missing(next(key for key in choices if choices[key] != others[0][1][key]), where)
    pairs = tuple((cell, _tensor(cell, stored)) for cell in expected)
    return Match(choices, pairs)


def complaints(
    layout: Layout, facts: Facts, sizes: Sizes, grid: Grid, stored: Stored, where: str
) -> Sequence[Mismatch]:
    """All that does not fit, in the way in which the layout fits best; of the places in `stored` alone.

    Empty if the grid cuts what cannot be cut. Raises UsageError for a choice that there is not.
    """
    candidates = [
        tuple(cell for cell in expected if (cell.rank, cell.stage) in stored)
        for _, expected in _candidates(layout, _combinations(layout, facts), sizes, grid)
    ]
    return _closest(candidates, stored, where) if candidates else ()


def _candidates(
    layout: Layout, combinations: Iterable[Mapping[str, object]], sizes: Sizes, grid: Grid
) -> Iterator[tuple[Mapping[str, object], tuple[Cell, ...]]]:
    for choices in combinations:
        if not uneven(layout, choices, sizes, grid.tp):
            yield choices, tuple(cells(layout, choices, sizes, grid))


def _combinations(layout: Layout, facts: Facts) -> Iterator[Mapping[str, object]]:
    allowed = []
    for choice, values in layout.choices.items():
        if choice in facts and facts[choice].value not in values:
            what = f"{choice} is {shown(facts[choice].value)}"
            fix = f"possible in {layout.name}: {' or '.join(map(repr, values))}"
            raise UsageError(what, facts[choice].origin, fix)
        allowed.append((facts[choice].value,) if choice in facts else values)
    for combination in itertools.product(*allowed):
        yield dict(zip(layout.choices, combination, strict=True))


def _tensor(cell: Cell, stored: Stored) -> StoredTensor:
    tensors = stored[cell.rank, cell.stage]
    return next(tensors[name] for name in cell.spellings if name in tensors)


def _mismatches(expected: tuple[Cell, ...], stored: Stored, where: str) -> Iterator[Mismatch]:
    used: dict[Place, set[str]] = {place: set() for place in stored}
    for cell in expected:
        place = (cell.rank, cell.stage)
        names = [name for name in cell.spellings if name in stored[place]]
        if not names:
            yield Mismatch(
                f"{cell.name} is missing; a tensor of shape {list(cell.shape)} is expected",
                _file_of(stored[place], where),
                absent=True,
            )
        for name in names[:1]:
            tensor = stored[place][name]
            used[place].add(name)
            if tensor.shape != cell.shape:
                yield Mismatch(
                    f"{tensor.name} has shape {list(tensor.shape)} where {list(cell.shape)} is expected",
                    tensor.file,
                )
    for place, tensors in stored.items():
        for name in tensors.keys() - used[place]:
            tensor = tensors[name]
            yield Mismatch(
                f"{tensor.name} of shape {list(tensor.shape)} has no place: no such tensor is expected",
                tensor.file,
                surplus=True,
            )


def _file_of(tensors: Mapping[str, StoredTensor], where: str) -> str:
    """Where a tensor should have been: the one file of its place, or the directory of several."""
    files = {tensor.file for tensor in tensors.values()}
    return files.pop() if len(files) == 1 else where


def _closest(candidates: Sequence[tuple[Cell, ...]], stored: Stored, where: str) -> Sequence[Mismatch]:
    """What is wrong under the combination that fits best."""
    return min((sorted(_mismatches(expected, stored, where), key=str) for expected in candidates), key=len)


def _refusal(mismatches: Sequence[Mismatch]) -> ZooError:
    """A model that is whole and has more than the layout is not supported; any other is damaged."""
    first = mismatches[0]
    what = first.what + (f" (and {len(mismatches) - 1} more)" if len(mismatches) > 1 else "")
    if all(mismatch.surplus for mismatch in mismatches):
        fix = "all other tensors are there: if the model is the same without it, save it without"
        return UnsupportedError(what, first.where, fix)
    fix = "nothing was written; check that all files belong to one checkpoint, and to this config"
    return IntegrityError(what, first.where, fix)
