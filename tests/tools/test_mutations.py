"""The faults of tools/mutations.yaml fit the code: one whose text is gone is one that nobody tries."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (.+) \| (.+) \| `(?:tests/)?(\S+)::(\w+)` \|$", re.MULTILINE)


def table():
    return yaml.safe_load((ROOT / "tools/mutations.yaml").read_text(encoding="utf-8"))


def test_every_fault_replaces_a_text_that_stands_there_once_by_another():
    faults = [fault for faults in table().values() for fault in faults]
    assert len(faults) > 150
    for fault in faults:
        assert (ROOT / fault["file"]).read_text(encoding="utf-8").count(fault["old"]) == 1, fault["what"]
        assert fault["old"] != fault["new"], fault["what"]


def test_the_document_has_them_all_with_tests_that_there_are():
    text = (ROOT / "docs/mutations.md").read_text(encoding="utf-8")
    rows = ROW.findall(text)
    listed = [(trap, fault["what"]) for trap, faults in table().items() for fault in faults]
    assert [row[:2] for row in rows] == listed
    assert f"holds {len(listed)} faults" in text
    for _, _, file, test in rows:
        found = next(
            path for path in (ROOT / "tests" / file, ROOT / "tests/converters" / file) if path.exists()
        )
        assert f"def {test}(" in found.read_text(encoding="utf-8"), test
