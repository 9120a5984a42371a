"""A world whose user may reach the hubs by odd ways only."""

from __future__ import annotations

import pytest

from tests.hubs.authority import Authority


@pytest.fixture(scope="package")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))
