"""Writes the table of docs/downloads.md on killed downloads: what they send again, and what they leave.

    python tools/kill_table.py

What stands between the marks is replaced. Takes about four minutes; a part of the same cases is
tests/downloads/test_kills.py.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SEEDS = {0: 5, 1: 50, 2: 10}
"""How many downloads, by the number of kills."""


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from benchmarks.fixtures.results import publish, table
    from tests.downloads import kills

    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            kills.row(times, kills.outcomes(Path(folder) / str(times), seeds, times))
            for times, seeds in SEEDS.items()
        ]
        steps = kills.every_step(Path(folder) / "steps")
        bad = sum(bool(outcome.wrong or outcome.left) for outcome in steps)
        sentence = (
            f"A download of small files was also killed before each of the {len(steps)} changes that it "
            "makes in the store (files begun, renamed, linked, removed): something wrong or left over after "
            f"{bad} of them, {max(outcome.again for outcome in steps)} bytes sent again at most."
        )
        text = table(kills.COLUMNS, rows), sentence
        publish("kills", "Killed downloads", "make kill-table", Path(folder), *text, document="downloads.md")


if __name__ == "__main__":
    main()
