"""Every fault in the files and listings of every protocol: the right bytes, or a refusal that names it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from internlm_zoo.errors import AccessError, IntegrityError, NetworkError, NotFoundError
from tests.downloads import fault_directory
from tests.downloads.fault_table import CASES, Case, Outcome, outcomes, table

pytestmark = pytest.mark.slow
DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"


def cases(*, alone: bool, once: bool) -> pytest.MarkDecorator:
    chosen = [case for case in CASES if (case.alone, case.once) == (alone, once)]
    return pytest.mark.parametrize("case", chosen, ids=str)


@pytest.fixture(scope="module")
def got(request: pytest.FixtureRequest) -> Mapping[Case, Outcome]:
    """The cases that were chosen, or all of them for the document."""
    items = [item for item in request.session.items if item.path == request.path]
    chosen = {item.callspec.params.get("case") for item in items if hasattr(item, "callspec")}
    whole = any(not hasattr(item, "callspec") for item in items)
    return outcomes([case for case in CASES if whole or case in chosen])


@cases(alone=True, once=False)
def test_a_faulty_hub_alone_gives_the_right_bytes_or_is_refused_by_name(
    got: Mapping[Case, Outcome], case: Case
) -> None:
    outcome = got[case]
    assert outcome.sound
    if outcome.error is None:
        assert outcome.is_right
        return
    assert type(outcome.error) in (AccessError, IntegrityError, NetworkError, NotFoundError)
    assert case.fault.said is not None and re.search(case.fault.said, outcome.error.what)
    assert outcome.shown == 0


@cases(alone=False, once=False)
def test_with_a_next_source_the_right_bytes_come(got: Mapping[Case, Outcome], case: Case) -> None:
    outcome = got[case]
    assert outcome.sound and outcome.is_right


@cases(alone=True, once=True)
def test_what_passes_is_waited_for(got: Mapping[Case, Outcome], case: Case) -> None:
    outcome = got[case]
    assert outcome.sound
    if case.fault.kind == "flip" and outcome.error is not None:
        assert isinstance(outcome.error, IntegrityError) and outcome.shown == 0
    else:
        assert outcome.is_right


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, bool], Outcome]:
    return fault_directory.outcomes(tmp_path_factory.mktemp("directory"))


@pytest.mark.parametrize("name", fault_directory.DAMAGES)
def test_a_damaged_directory_is_refused_by_name_and_left_for_the_next(
    directory: Mapping[tuple[str, bool], Outcome], name: str
) -> None:
    alone, following = directory[name, True], directory[name, False]
    assert alone.error is not None and alone.shown == 0 and alone.sound
    assert re.search(fault_directory.DAMAGES[name].said, alone.error.what)
    assert following.is_right and following.sound


def test_the_document_shows_what_happens(
    got: Mapping[Case, Outcome], directory: Mapping[tuple[str, bool], Outcome]
) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert table(got) in document and fault_directory.table(directory) in document, "run `make fault-table`"
