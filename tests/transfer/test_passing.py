"""The digest of a file whose bytes pass roughly in order."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from internlm_zoo.files import Digests, File
from internlm_zoo.transfer import out_of_order_hasher
from internlm_zoo.transfer.out_of_order_hasher import OutOfOrderHasher

CONTENT = random.Random(0).randbytes(4000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 3999), st.integers(1, 1500)), max_size=12),
    st.randoms(use_true_random=False),
)
def test_pieces_in_any_order_and_twice_give_the_digest_of_the_whole(extra, order):
    pieces = [(start, 400) for start in range(0, 4000, 400)] + extra
    order.shuffle(pieces)
    running = OutOfOrderHasher(File("file", 4000, Digests(SHA256)))
    for start, length in pieces:
        running.add(start, CONTENT[start : start + length])
    assert (running.position, running.lost, running.mismatch()) == (4000, False, None)
    assert (running.sha256, running.checked_against) == (SHA256, "sha256")


def test_it_names_what_is_missing():
    running = OutOfOrderHasher(File("file", 4000))
    running.add(0, CONTENT[:100])
    running.add(300, CONTENT[300:500])
    assert running.missing(4000) == (100, 300)
    running.add(100, CONTENT[100:300])
    assert running.missing(4000) == (500, 4000)


def test_it_gives_up_before_more_waits_than_the_limit(monkeypatch):
    monkeypatch.setattr(out_of_order_hasher, "LIMIT", 1000)
    running = OutOfOrderHasher(File("file", 4000, Digests(SHA256)))
    for start in range(500, 4000, 500):
        running.add(start, CONTENT[start : start + 500])
    running.add(0, CONTENT[:500])
    assert running.lost
    assert running.position == 0


@pytest.mark.parametrize(
    ("wanted", "md5", "what"),
    [
        (File("file", 4000, Digests("0" * 64)), None, "expected sha256"),
        (File("file", 4000, Digests(git_sha1="0" * 40)), None, "expected git sha1"),
        (File("file", 4000), "0" * 32, "expected md5"),
    ],
)
def test_each_published_digest_is_held_against_the_bytes(wanted, md5, what):
    running = OutOfOrderHasher(wanted, md5)
    running.add(0, CONTENT)
    assert what in str(running.mismatch())
