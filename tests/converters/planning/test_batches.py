"""Target tensors that share a logical tensor are written together, however the sharing comes about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.formats.tensors import Span
from converters.geometry.batches import Place, batches_of
from converters.geometry.cells import Cell, Slab


def place(file, held):
    slabs = tuple(Slab(name, ((0, 1),), (0,), ((0, 1),)) for name in held)
    name = "+".join(held)
    return Place(file, Cell(0, 0, (name,), (1,), slabs, replicated=False), Span(name, "F32", (1,), 0))


def batches(*held):
    found = batches_of(place(str(n), names) for n, names in enumerate(held))
    return [(set(batch.tensors), {int(place.file) for place in batch.places}) for batch in found]


@pytest.mark.parametrize(
    "held", [("q", "k", "qk"), ("qk", "q", "k"), ("q", "qk", "k"), ("k", "q", "kq")], ids=" ".join
)
def test_places_that_a_later_one_joins_are_one_batch(held):
    assert batches(*held, "v") == [({"q", "k"}, {0, 1, 2}), ({"v"}, {3})]


@given(st.lists(st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=3).map(sorted), max_size=12))
def test_batches_are_the_connected_parts(held):
    found = batches(*held)
    assert sorted(n for _, places in found for n in places) == list(range(len(held)))
    for tensors, places in found:
        assert tensors == {name for n in places for name in held[n]}
        reached = {min(places)}
        while grown := {n for n in places - reached if any(set(held[n]) & set(held[m]) for m in reached)}:
            reached |= grown
        assert reached == places
    names = [name for tensors, _ in found for name in tensors]
    assert len(names) == len(set(names))
