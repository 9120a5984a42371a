"""What docs/engines.md claims, measured again for the engines that install quickly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("sentencepiece")

from tools import engine_matrix
from tools.engines import page
from tools.engines.table import read_table

ROOT = Path(__file__).parents[2]
ENGINES = read_table()[0]
QUICK = [engine for engine in ENGINES if engine.quick]


def document() -> str:
    return page.DOCUMENT.read_text(encoding="utf-8")


def test_every_engine_of_the_table_is_in_the_document():
    assert [engine.name for engine in ENGINES if f"| {engine.title} |" not in document()] == []


def test_the_engines_that_convert_names_are_rows_of_the_document_without_a_fault():
    named = {
        (model, format, engine)
        for model, family in page.FAMILIES.items()
        for format, engines in json.loads(page.DATA.read_text(encoding="utf-8"))[family].items()
        for engine in engines
    }
    assert named
    for model, format, engine in named:
        rows = [line for line in document().splitlines() if f"{engine} | {format} | {model} | all " in line]
        assert any("**" not in row for row in rows), (model, format, engine)


@pytest.mark.parametrize(("format", "named"), [("llama", True), ("gguf", True), ("hf", False)])
def test_the_end_of_a_conversion_names_the_engines_that_open_it(format, named, zoo, tmp_path):
    src = ROOT / "internlm_zoo/demo/models/demo-internlm-base"
    code, _, notes = zoo("convert", src, tmp_path / "dst", "--to", format)
    right = json.loads(page.DATA.read_text(encoding="utf-8"))["internlm"][format]
    assert code == 0
    assert bool(right) is named
    assert all(engine in notes for engine in right)
    assert ("docs/engines.md" in notes) is named


@pytest.mark.slow
@pytest.mark.parametrize("engine", QUICK, ids=lambda engine: engine.name)
def test_an_engine_makes_of_the_demo_models_what_the_document_says(engine):
    pytest.importorskip("gguf", reason="make installs the gguf package; here it is not")
    outcomes, missing = engine_matrix.measure([engine])
    assert missing == {}
    said = [page.without_figures(line) for line in document().splitlines() if engine.title in line]
    found = page.tables(outcomes, {}).splitlines()
    assert said == [page.without_figures(line) for line in found if engine.title in line]
    assert all(outcome.right for outcome in outcomes if outcome.refusal is None)
