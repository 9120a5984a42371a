from __future__ import annotations

import pytest

from tests.converters.inspection.looking import DIMS, with_tokenizer
from tests.converters.oracle import make_model, write_hf, write_original


@pytest.fixture
def original(tmp_path):
    return with_tokenizer(write_original(tmp_path / "original", make_model(DIMS), DIMS, 2, (3, 3)))


@pytest.fixture
def hf(tmp_path):
    return with_tokenizer(write_hf(tmp_path / "hf", make_model(DIMS), DIMS, files=3))
