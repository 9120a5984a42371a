"""docs/files.md lists every file that is saved, and the code spells the name of each once."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from converters import saved
from converters.saved import SavedFormat

ROOT = Path(__file__).parents[2]
FORMS = [form for form in vars(saved).values() if isinstance(form, SavedFormat)]


def test_the_page_tells_name_and_number_of_every_form() -> None:
    text = (ROOT / "docs/files.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    told = {
        (name.strip("` "), number.split()[0].strip(","))
        for _, names, _, number, *_ in rows
        for name in names.split(",")
    }
    assert len(rows) == len(FORMS)
    for form in FORMS:
        assert any(name.endswith(form.file) and number == str(form.schema) for name, number in told), form


def test_every_name_of_a_saved_file_stands_in_the_code_once() -> None:
    names = {form.file for form in FORMS if form.file.count(".") == 1 and form.file[0] not in ".<"}
    names |= {".internlm-zoo"}
    spelled: Counter[str] = Counter()
    for package in ("internlm_zoo", "converters"):
        for path in (ROOT / package).rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            spelled.update(
                node.value for node in nodes if isinstance(node, ast.Constant) and node.value in names
            )
    assert spelled == dict.fromkeys(names, 1)
