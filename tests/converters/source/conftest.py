"""An original checkpoint of either family, to be refused."""

from __future__ import annotations

import pytest

from tests.converters.oracle import (
    BOTH,
    make_model,
    write_original,
)


@pytest.fixture(params=BOTH, ids=lambda dims: dims.family)
def dims(request):
    return request.param


@pytest.fixture
def src(tmp_path, dims):
    return write_original(tmp_path / "src", make_model(dims), dims, 4, (1, 2))


@pytest.fixture
def dst(tmp_path):
    return tmp_path / "dst"
