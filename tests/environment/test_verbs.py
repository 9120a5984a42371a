"""Every verb in every environment does what it is for, or is refused in a sentence and does it where all is
plain again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.environment.verbs import CASES, Case, Outcome, outcomes, table

pytestmark = pytest.mark.slow
DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
# Of the command line: docs/cli.md. 1 and 70 are no refusals.
REFUSALS = (2, 3, 4, 5, 6, 7, 8)


@pytest.fixture(scope="module")
def got() -> Mapping[Case, Outcome]:
    return outcomes()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_does_what_it_is_for_or_says_what_is_in_its_way(got: Mapping[Case, Outcome], case: Case) -> None:
    if case not in got:
        pytest.skip(f"{case.environment.name}: {case.environment.why_not}")
    outcome = got[case]
    assert "Traceback" not in outcome.done.err
    assert outcome.right or outcome.done.code in REFUSALS, outcome.done
    assert outcome.right or re.search(r"^error: .*(/|\n  fix: )", outcome.done.err, re.MULTILINE)
    assert outcome.again, "what it left is in the way of the next run"


def test_the_document_shows_what_happens(got: Mapping[Case, Outcome]) -> None:
    if missing := {case.environment.name for case in CASES if case not in got}:
        pytest.skip(f"not to be had here: {', '.join(sorted(missing))}")
    assert table(got) in DOCUMENT.read_text(encoding="utf-8"), "run `make fault-table`"
