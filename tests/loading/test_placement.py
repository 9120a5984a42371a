"""Placement: every layer once, in order, no device fuller than it must be, and numbers in the refusal."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from internlm_zoo.errors import UnsupportedError, UsageError
from internlm_zoo.fitting.offload import BlockSizes
from internlm_zoo.loading.placement import Device, in_units, place

sizes = st.builds(
    BlockSizes,
    st.integers(0, 1000),
    st.lists(st.integers(1, 1000), min_size=1, max_size=9).map(tuple),
    st.integers(0, 1000),
)


def devices(count: int, memory: int | None = None) -> list[Device]:
    return [Device(f"cuda:{index}", memory) for index in range(count)]


@given(sizes, st.data())
def test_every_layer_is_on_one_device_and_devices_hold_consecutive_layers(sizes, data):
    count = data.draw(st.integers(1, len(sizes.layers)))
    placement = place(sizes, devices(count))
    held = [layer for part in placement.parts for layer in part.layers]
    assert held == list(range(len(sizes.layers)))
    assert [part.device.name for part in placement.parts] == [f"cuda:{index}" for index in range(count)]
    assert all(len(part.layers) >= 1 for part in placement.parts)


@given(sizes, st.data())
def test_the_ends_of_the_model_are_on_the_first_and_the_last_device_and_no_byte_is_lost(sizes, data):
    placement = place(sizes, devices(data.draw(st.integers(1, len(sizes.layers)))))
    assert [part.embedding for part in placement.parts] == [True] + [False] * (len(placement.parts) - 1)
    assert [part.head for part in placement.parts] == [False] * (len(placement.parts) - 1) + [True]
    assert placement.nbytes == sizes.total


@given(sizes, st.data())
def test_no_other_cut_makes_the_fullest_device_emptier(sizes, data):
    count = data.draw(st.integers(1, len(sizes.layers)))
    fullest = max(part.nbytes for part in place(sizes, devices(count)).parts)
    blocks = list(sizes.layers)
    blocks[0] += sizes.embedding
    blocks[-1] += sizes.head
    cuts = itertools.combinations(range(1, len(blocks)), count - 1)
    assert fullest == min(
        max(sum(blocks[a:b]) for a, b in itertools.pairwise((0, *cut, len(blocks)))) for cut in cuts
    )


@given(sizes, st.lists(st.integers(0, 3000), min_size=1, max_size=4), st.booleans())
def test_what_is_placed_fits_and_what_is_refused_fits_no_cut(sizes, memories, again):
    names = ["cpu"] * len(memories) if again else [f"cuda:{index}" for index in range(len(memories))]
    memories = [memories[0]] * len(memories) if again else memories
    named = [Device(name, memory) for name, memory in zip(names, memories, strict=True)]
    room = [memory / len(memories) if again else memory for memory in memories]
    blocks = sizes.blocks
    cuts = itertools.combinations(range(1, len(blocks)), len(named) - 1)
    possible = any(
        all(
            sum(blocks[a:b]) <= limit
            for (a, b), limit in zip(itertools.pairwise((0, *cut, len(blocks))), room, strict=True)
        )
        for cut in cuts
    )
    if len(named) > len(blocks):
        with pytest.raises(UsageError):
            place(sizes, named)
    elif possible:
        parts = place(sizes, named).parts
        assert all(part.nbytes <= limit for part, limit in zip(parts, room, strict=True))
    else:
        with pytest.raises(UnsupportedError):
            place(sizes, named)


def test_a_small_device_gets_fewer_layers_than_a_large_one():
    parts = place(BlockSizes(0, (10,) * 10, 0), [Device("cuda:0", 30), Device("cuda:1", 100)]).parts
    assert [len(part.layers) for part in parts] == [3, 7]


def test_a_cpu_behind_an_accelerator_has_as_few_layers_as_can_be():
    for card, held in ((40, 4), (1000, 9)):
        parts = place(BlockSizes(0, (10,) * 10, 0), [Device("cuda:0", card), Device("cpu", 1000)]).parts
        assert [len(part.layers) for part in parts] == [held, 10 - held]


def test_a_refusal_names_what_is_needed_and_what_is_free():
    with pytest.raises(UnsupportedError) as refused:
        place(BlockSizes(2_000_000, (10_000_000,) * 4, 2_000_000), devices(2, 15_000_000))
    message = str(refused.value)
    assert refused.value.exit_code == 7
    assert "44.0 MB" in message and "4 layers" in message and "cuda:1 15.0 MB" in message
    assert refused.value.fix


def test_more_devices_than_layers_is_a_usage_error_that_names_both():
    with pytest.raises(UsageError, match="3 devices for 2 layers"):
        place(BlockSizes(1, (1, 1), 1), devices(3))


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (13_400_000_000, "13.4 GB"), (2 * 10**15, "2000.0 TB")],
)
def test_bytes_read_as_a_person_would_say_them(nbytes, text):
    assert in_units(nbytes) == text
