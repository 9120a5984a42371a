"""The faults of tools/mutations.yaml fit the code: one whose text is gone is one that nobody tries."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_every_fault_replaces_a_text_that_stands_there_once_by_another():
    table = yaml.safe_load((ROOT / "tools/mutations.yaml").read_text(encoding="utf-8"))
    faults = [fault for faults in table.values() for fault in faults]
    assert len(faults) > 150
    for fault in faults:
        assert (ROOT / fault["file"]).read_text(encoding="utf-8").count(fault["old"]) == 1, fault["what"]
        assert fault["old"] != fault["new"], fault["what"]
