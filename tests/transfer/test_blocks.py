"""Stretches of a file, claimed by several connections: each byte is brought once, whoever comes when."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from internlm_zoo.transfer.blocks import Blocks, Claim

BLOCK = 10


def spans(blocks: Blocks) -> list[tuple[int, int | None]]:
    found = []
    while (claim := blocks.claim()) is not None:
        found.append((claim.position, claim.end))
    return found


def test_a_small_file_is_one_stretch_and_a_large_one_several() -> None:
    assert spans(Blocks(75, BLOCK)) == [(0, 75)]
    assert spans(Blocks(0, BLOCK)) == []
    assert spans(Blocks(165, BLOCK)) == [(at, min(at + 20, 165)) for at in range(0, 165, 20)]


def test_what_is_here_is_not_claimed_and_a_begun_block_goes_on_at_its_byte() -> None:
    blocks = Blocks(45, BLOCK)
    blocks.fill(0, 10)
    blocks.fill(1, 4)
    blocks.fill(3, 10)
    assert spans(blocks) == [(14, 30), (40, 45)]


def test_a_file_of_unknown_size_is_one_stretch_without_an_end() -> None:
    blocks = Blocks(None, BLOCK)
    claim = blocks.claim()
    assert claim is not None and (claim.position, claim.end) == (0, None)
    assert blocks.claim() is None
    blocks.size_is(31)
    assert claim.end == 31


def test_an_idle_connection_takes_the_second_half_of_the_longest_stretch() -> None:
    blocks = Blocks(75, BLOCK)
    first = blocks.claim()
    second = blocks.share()
    assert first is not None and second is not None
    assert [(first.position, first.end), (second.position, second.end)] == [(0, 40), (40, 75)]
    blocks.claim_all(first)
    assert (first.end, second.done, blocks.holds(second)) == (75, True, False)


@given(
    size=st.integers(1, 400),
    here=st.dictionaries(st.integers(0, 40), st.integers(0, BLOCK), max_size=20),
    seed=st.integers(0, 10_000),
)
def test_whatever_happens_every_byte_is_brought_once(size: int, here: dict[int, int], seed: int) -> None:
    blocks, brought, chance = Blocks(size, BLOCK), bytearray(size), random.Random(seed)
    for block, amount in here.items():
        if block < blocks.count:
            amount = min(amount, blocks.length(block))
            blocks.fill(block, amount)
            for at in range(block * BLOCK, block * BLOCK + amount):
                brought[at] += 1
    claims: list[Claim] = []
    while not blocks.complete:
        fresh = blocks.claim() or (blocks.share() if chance.random() < 0.3 else None)
        claims += [fresh] if fresh else []
        claim = chance.choice(claims)
        if claim.done or chance.random() < 0.2:
            blocks.give_back(claim)
            claims.remove(claim)
            continue
        assert claim.end is not None
        room = min(claim.end, (claim.position // BLOCK + 1) * BLOCK) - claim.position
        step = chance.randint(1, room)
        for at in range(claim.position, claim.position + step):
            brought[at] += 1
        blocks.advance(claim, step)
    assert brought == b"\1" * size
    assert blocks.contiguous(0) == size
