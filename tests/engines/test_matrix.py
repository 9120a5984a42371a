"""What docs/engines.md claims, measured again for the engines that install quickly."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("sentencepiece")

from tools import engine_matrix  # noqa: E402
from tools.engines import page  # noqa: E402
from tools.engines.table import ALIKE, read_table  # noqa: E402

ENGINES = read_table()[0]
QUICK = [engine for engine in ENGINES if engine.quick]


def document() -> str:
    return page.DOCUMENT.read_text(encoding="utf-8")


def test_every_engine_of_the_table_is_in_the_document():
    assert [engine.name for engine in ENGINES if f"| {page.title(engine)} |" not in document()] == []


def test_the_engines_that_convert_names_are_rows_of_the_document_without_a_fault():
    named = json.loads(page.DATA.read_text(encoding="utf-8"))
    assert named
    for format, models in named.items():
        for model, engines in models.items():
            rows = [line for line in document().splitlines() if f"| {format} | {model} | all " in line]
            for engine in engines:
                fine = [row for row in rows if f"{engine} |" in row and "**" not in row]
                assert fine, (format, model, engine)


@pytest.mark.slow
@pytest.mark.parametrize("engine", QUICK, ids=lambda engine: engine.name)
def test_an_engine_makes_of_the_demo_models_what_the_document_says(engine):
    outcomes, missing = engine_matrix.measure([engine])
    assert missing == {}
    said = [page.without_figures(line) for line in document().splitlines() if page.title(engine) in line]
    found = page.tables(outcomes, {}).splitlines()
    assert said == [page.without_figures(line) for line in found if page.title(engine) in line]
    assert all(outcome.away is None or outcome.away <= ALIKE for outcome in outcomes if outcome.right)
