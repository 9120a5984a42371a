"""Writes the tables of docs/faults.md: every fault of the tests' hubs, and what `download` makes of it.

    python tools/fault_table.py

What stands between the two marks is replaced. Takes about a minute; the same cases are tests/store/
test_fault_table.py, which holds the document to be current.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- begin: make fault-table -->\n", "<!-- end -->"


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from tests.store.fault_table import outcomes, table

    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table(outcomes())}{END}{after}", encoding="utf-8")
    print(f"{DOCUMENT.relative_to(ROOT)} is written")


if __name__ == "__main__":
    main()
