"""Writes the tables of docs/faults.md: what `download` makes of every fault of the tests' hubs, and what each
verb makes of every odd environment.

    python tools/fault_table.py

What stands between the two marks is replaced. Takes some minutes; the same cases are
tests/downloads/test_fault_table.py and tests/environment/test_verbs.py, which hold the document to be
current.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- begin: make fault-table -->\n", "<!-- end -->"


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from tests.downloads import fault_directory, fault_table
    from tests.environment import verbs

    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    with tempfile.TemporaryDirectory() as folder:
        directory = fault_directory.table(fault_directory.outcomes(Path(folder)))
    tables = f"{fault_table.table(fault_table.outcomes())}\n{directory}\n{verbs.table(verbs.outcomes())}"
    DOCUMENT.write_text(f"{before}{BEGIN}\n{tables}{END}{after}", encoding="utf-8")
    print(f"{DOCUMENT.relative_to(ROOT)} is written")


if __name__ == "__main__":
    main()
