"""Every input of the corpus, and every honest one: a value or a ZooError, and a value for the honest ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.contract import CORPUS, kept, outcome
from tests.fuzz.readers import READERS

INPUTS = [(name, path) for name in READERS for path in kept(name)]


@pytest.mark.parametrize("name", READERS)
def test_what_is_honest_is_read(name: str) -> None:
    reader = READERS[name]
    assert {outcome(reader, data)[0] for data in reader.honest()} == {"value"}


@pytest.mark.parametrize(("name", "path"), INPUTS, ids=lambda value: getattr(value, "name", value))
def test_what_is_not_ends_in_a_value_or_a_sentence(name: str, path: Path) -> None:
    outcome(READERS[name], path.read_bytes())


def test_every_folder_of_the_corpus_has_a_reader() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= READERS.keys()
