"""Two checkpoints of any formats, held against each other tensor by tensor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from converters.formats.tensors import ELEMENT_TYPES
from converters.planning.choices import normalised
from converters.source.checkpoint import Checkpoint, open_checkpoint
from converters.source.gather import Sources
from converters.streaming.rows import Floats, round_to, to_floats
from converters.streaming.stream import Stream, check_replicas, in_parallel

IDENTICAL = "identical"
SAME_VALUES = "same values, other layout"
OTHER_CONFIG = "same tensors, other config"
ROUNDED = "rounded"
DIFFERENT = "different"
# Facts that decide with the tensors what a model computes; those of their shapes are compared with them.
_COMPUTES = ("rope_theta", "rope_scaling", "rms_norm_eps")
# Where rotation is scaled, by how much depends on it.
_SCALED = "max_position_embeddings"
# Elements compared at once.
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Difference:
    """index: of the first element that differs, in the shape Llama stores the tensor in; None if there is
    none to compare. values: what either side holds there."""

    tensor: str
    what: str
    index: tuple[int, ...] | None = None
    values: tuple[float, float] | None = None


@dataclass(frozen=True)
class Comparison:
    """verdict: identical (same layout and bytes), same values in another layout (or in a wider element type),
    same tensors whose config makes another model of them, rounded (one side is the other, rounded to its
    element type), or different. max_error: largest difference of two values; inf if they cannot be compared.
    config: facts that decide what is computed and that both configs state and differ in, with both values."""

    verdict: str
    first: Difference | None = None
    max_error: float = 0.0
    config: tuple[tuple[str, Any, Any], ...] = ()

    @property
    def same(self) -> bool:
        return self.verdict in (IDENTICAL, SAME_VALUES)


def compare(
    one: str | os.PathLike[str],
    other: str | os.PathLike[str],
    *,
    given: Mapping[str, Any] | None = None,
    weights: tuple[str | None, str | None] = (None, None),
    workers: int | None = None,
) -> Comparison:
    """Which of the five holds. given: facts that the configs do not state. weights: which of several sets, of
    either side. Raises what `open_checkpoint` raises."""
    named = zip((one, other), weights, strict=True)
    sides = [open_checkpoint(side, given, weights=name) for side, name in named]
    return compare_opened(*sides, workers=workers)


def compare_opened(one: Checkpoint, other: Checkpoint, *, workers: int | None = None) -> Comparison:
    """The same for checkpoints that are open."""
    found, config = _compare_tensors(one, other, workers), tuple(_other_facts(one, other))
    return replace(found, verdict=OTHER_CONFIG if config and found.same else found.verdict, config=config)


def _other_facts(one: Checkpoint, other: Checkpoint) -> Iterator[tuple[str, Any, Any]]:
    scaled = any(side.facts["rope_scaling"].value for side in (one, other) if "rope_scaling" in side.facts)
    for name in (*_COMPUTES, *([_SCALED] if scaled else [])):
        stated = [side.facts[name].value for side in (one, other) if name in side.facts]
        if len(stated) == len((one, other)) and stated[0] != stated[1]:
            yield name, stated[0], stated[1]


def _compare_tensors(one: Checkpoint, other: Checkpoint, workers: int | None) -> Comparison:
    apart = _apart(one, other)
    if apart:
        return Comparison(DIFFERENT, apart, float("inf"))
    with ExitStack() as stack:
        streams = []
        for side in (one, other):
            files = stack.enter_context(Sources(side.folder))
            check_replicas(side, files)
            streams.append(Stream(side, files, normalised(side, {})))
        found = in_parallel(lambda name: _compare(streams, name), list(one.tensors), workers)
    return _verdict(one, other, found)


def _apart(one: Checkpoint, other: Checkpoint) -> Difference | None:
    """What differs by the headers alone."""
    for name in (*one.tensors, *other.tensors):
        if name not in one.tensors or name not in other.tensors:
            return Difference(name, f"only the {'first' if name in one.tensors else 'second'} has it")
        shapes = [side.tensors[name].shape for side in (one, other)]
        if shapes[0] != shapes[1]:
            return Difference(name, f"shape {list(shapes[0])} against {list(shapes[1])}")
        if one.box_of(name) != other.box_of(name):
            return Difference(name, "its heads are grouped differently")
    return None


@dataclass(frozen=True)
class _Found:
    """Of one tensor. first: flat index of the first element that differs, and both values."""

    equal: bool
    rounded: bool = True
    max_error: float = 0.0
    first: tuple[int, float, float] | None = None
    difference: Difference | None = None


def _verdict(one: Checkpoint, other: Checkpoint, found: list[_Found]) -> Comparison:
    unequal = [result for result in found if not result.equal]
    if not unequal:
        sides = [(side.layout.name, side.grid, side.choices, side.dtype_by_name) for side in (one, other)]
        alike = sides[0] == sides[1]
        return Comparison(IDENTICAL if alike else SAME_VALUES)
    largest = max(result.max_error for result in unequal)
    if all(result.rounded for result in unequal):
        return Comparison(ROUNDED, unequal[0].difference, largest)
    return Comparison(DIFFERENT, next(r for r in unequal if not r.rounded).difference, largest)


def _compare(streams: Sequence[Stream], name: str) -> _Found:
    dtypes = streams[0].dtype_of(name), streams[1].dtype_of(name)
    found, done = _Found(equal=True), 0
    blocks = [stream.read(name, elements=_CHUNK) for stream in streams]
    for (_, a), (_, b) in zip(*blocks, strict=True):
        if dtypes[0] != dtypes[1] or not np.array_equal(a, b):
            found = _look(found, to_floats(a, dtypes[0]), to_floats(b, dtypes[1]), dtypes, done)
        done += len(a) // ELEMENT_TYPES[dtypes[0]].itemsize
    return replace(found, difference=_named(found, streams[0].source, name))


def _look(found: _Found, a: Floats, b: Floats, dtypes: tuple[str, str], done: int) -> _Found:
    """What a stretch of elements adds to what was found before it."""
    differs = ((a != b) | (np.signbit(a) != np.signbit(b))) & ~(np.isnan(a) & np.isnan(b))
    if not differs.any():
        return found
    at = int(np.argmax(differs))
    with np.errstate(invalid="ignore"):
        gaps = np.abs(a[differs] - b[differs])
    return _Found(
        equal=False,
        rounded=found.rounded and _is_rounding(a, b, dtypes),
        max_error=max(found.max_error, float("inf") if np.isnan(gaps).any() else float(gaps.max())),
        first=found.first or (done + at, float(a[at]), float(b[at])),
    )


def _is_rounding(a: Floats, b: Floats, dtypes: tuple[str, str]) -> bool:
    """Whether one side is what the other becomes in its element type."""
    if dtypes[0] == dtypes[1]:
        return False
    return np.array_equal(round_to(a, dtypes[1]), b, equal_nan=True) or np.array_equal(
        round_to(b, dtypes[0]), a, equal_nan=True
    )


def _named(found: _Found, source: Checkpoint, name: str) -> Difference | None:
    if found.first is None:
        return None
    at, a, b = found.first
    index = tuple(int(i) for i in np.unravel_index(at, source.tensors[name].shape))
    return Difference(name, "values differ", index, (a, b))
