"""Ranks have the disk give them their shares of a checkpoint, and nothing that lies beside."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.converters.oracle import INTERNLM2, make_model, write_hf, write_original
from tests.loading.cold_shares import COLUMNS, ROWS, Share, measured

pytestmark = pytest.mark.slow
# Columns of o and down are runs of a row: long beside pages of 4 KB, and a system's readahead much longer.
DIMS = replace(INTERNLM2, layers=2, hidden=64, heads=4, kv_heads=4, inter=81920, vocab=2048)
TRIES = 3


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> list[tuple[str, int, list[Path]]]:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux counts what is read and tells what it caches")
    folder, model = tmp_path_factory.mktemp("cold"), make_model(DIMS)
    made = [
        ("llama", 1, write_hf(folder / "llama", model, DIMS, "llama")),
        ("original tp 4", 1, write_original(folder / "original", model, DIMS, 4)),
    ]
    made.append(("hf, pp 2", 2, write_hf(folder / "hf", model, DIMS, "hf")))
    return [(name, pp, [one, shutil.copytree(one, one.with_name(f"{one.name} 1"))]) for name, pp, one in made]


def beyond(shares: list[Share], stored: int) -> list[tuple[str, float]]:
    """What is read beyond what may be."""
    held = [sum(share.held.values()) for share in shares]
    ratios = [("asked", share.asked / size, 1.02) for share, size in zip(shares, held, strict=True)]
    for kind, most in ((COLUMNS, 1.02), (ROWS, 1.10)):
        ratios += [(kind, share.fetched[kind] / share.held[kind], most) for share in shares]
    ratios.append(("sum", sum(share.total for share in shares) / stored, 1.05))
    return [(what, ratio) for what, ratio, most in ratios if ratio > most]


def test_a_rank_fetches_its_share_from_the_disk_and_no_more(cases):
    """Tried again where another process has the system drop pages meanwhile, which are then read again."""
    sizes = {name: sum(file.stat().st_size for file in folders[0].iterdir()) for name, _, folders in cases}
    for _ in range(TRIES):
        found = measured(cases)
        if any(share.warm for shares in found.values() for share in shares):
            pytest.skip("this file system goes on caching what it is told to drop")
        wrong = {name: beyond(shares, sizes[name]) for name, shares in found.items()}
        if not any(wrong.values()):
            return
    pytest.fail(str(wrong))
