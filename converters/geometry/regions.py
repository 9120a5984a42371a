"""A region of a stored tensor as boxes of logical ones: what a slice in one layout asks of another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from converters.geometry.cells import Box, Slab
from converters.geometry.pieces import extents_of

_Level = tuple[int, int, int]
"""An axis, how many indices of the stored dimension one step along it is, and its extent."""
_Cut = dict[int, tuple[int, int]]
"""Start and stop along some axes, counted from where the slab's box starts."""


def within(slab: Slab, region: Box) -> Iterator[Slab]:
    """What a slab has in a region of its stored tensor, in parts that are boxes of the logical tensor. Their
    bases count from the region's first element."""
    if not math.prod(extents_of(slab.box)):
        return
    sides = zip(region, slab.base, strict=True)
    cuts = [
        list(_cuts(_levels(slab, dim), start - base, stop - base))
        for dim, ((start, stop), base) in enumerate(sides)
    ]
    for chosen in itertools.product(*cuts):
        yield _part(slab, region, {axis: side for cut in chosen for axis, side in cut.items()})


def _levels(slab: Slab, dim: int) -> list[_Level]:
    """The axes along a stored dimension, outermost first, without those of one element."""
    extents = extents_of(slab.box)
    along = [
        (axis, step, extents[axis])
        for axis, (where, step) in enumerate(slab.steps)
        if where == dim and extents[axis] > 1
    ]
    return sorted(along, key=lambda level: -level[1])


def _reach(levels: Sequence[_Level]) -> int:
    """Indices of the dimension from the first element to behind the last one."""
    return 1 + sum((extent - 1) * step for _, step, extent in levels)


def _cuts(levels: Sequence[_Level], start: int, stop: int) -> Iterator[_Cut]:
    """What lies from start to stop: where these cut through a step of the outermost axis, part of that step,
    and all steps between in one."""
    reach = _reach(levels)
    if start >= min(stop, reach) or stop <= 0:
        return
    if start <= 0 and stop >= reach:
        yield {axis: (0, extent) for axis, _, extent in levels}
        return
    (axis, step, extent), *inner = levels
    first = max(-(-start // step), 0)
    last = min((stop - _reach(inner)) // step + 1, extent)
    if first > 0:
        yield from _within_step(axis, inner, first - 1, start - (first - 1) * step, stop - (first - 1) * step)
    if first < last:
        yield {axis: (first, last), **{one: (0, size) for one, _, size in inner}}
    if first <= last < extent:
        yield from _within_step(axis, inner, last, start - last * step, stop - last * step)


def _within_step(axis: int, inner: Sequence[_Level], at: int, start: int, stop: int) -> Iterator[_Cut]:
    return ({axis: (at, at + 1), **cut} for cut in _cuts(inner, start, stop))


def _part(slab: Slab, region: Box, cut: _Cut) -> Slab:
    starts = [cut.get(axis, (0, 1))[0] for axis in range(len(slab.box))]
    base = [index - start for index, (start, _) in zip(slab.base, region, strict=True)]
    for start, (dim, step) in zip(starts, slab.steps, strict=True):
        base[dim] += start * step
    box = tuple(
        (first + cut[axis][0], first + cut[axis][1]) if axis in cut else (first, stop)
        for axis, (first, stop) in enumerate(slab.box)
    )
    return Slab(slab.logical, box, tuple(base), slab.steps)
