"""A slice of a stored tensor is boxes of the logical tensors in it: each element of it once, and no other."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.geometry.regions import within
from converters.geometry.shares import share_of
from tests.converters.layouts.test_shares import models


def places(slab):
    """Index in the logical tensor -> index in the stored one, element by element."""
    for index in itertools.product(*(range(stop - start) for start, stop in slab.box)):
        at = list(slab.base)
        for n, (dim, step) in zip(index, slab.steps, strict=True):
            at[dim] += n * step
        yield tuple(start + n for n, (start, _) in zip(index, slab.box, strict=True)), tuple(at)


@settings(max_examples=150)
@given(models(), st.data())
def test_a_slice_is_each_of_its_elements_once(case, data):
    layout, choices, sizes, of = case
    cells = share_of(layout, choices, sizes, data.draw(st.integers(0, of - 1)), of)
    cell = data.draw(st.sampled_from(cells))
    sides = [sorted(data.draw(st.tuples(*[st.integers(0, size)] * 2))) for size in cell.shape]
    region = tuple((start, stop) for start, stop in sides)
    wanted = {
        tuple(n - start for n, (start, _) in zip(at, region, strict=True)): (slab.logical, index)
        for slab in cell.slabs
        for index, at in places(slab)
        if all(start <= n < stop for n, (start, stop) in zip(at, region, strict=True))
    }
    parts = [part for slab in cell.slabs for part in within(slab, region)]
    found = [(at, (part.logical, index)) for part in parts for index, at in places(part)]
    assert len(found) == len(wanted) == np.prod([stop - start for start, stop in region])
    assert dict(found) == wanted


def test_whole_heads_are_one_part():
    """So that what a rank holds is read in long stretches."""
    from converters.layouts import layout_of
    from tests.converters.layouts.test_shares import PLAIN, SMALL, sizes_of

    cells = {cell.name: cell for cell in share_of(layout_of("llama", "llama"), PLAIN, sizes_of(SMALL), 0, 1)}
    (slab,) = cells["model.layers.0.self_attn.q_proj.weight"].slabs
    group = SMALL.heads // SMALL.kv_heads * SMALL.head_dim
    assert len(list(within(slab, ((group, 3 * group), (0, SMALL.hidden))))) == 1
    assert len(list(within(slab, ((group - 1, 3 * group + 1), (0, SMALL.hidden))))) > 2
