"""A world whose user may reach the hubs by odd ways only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.hubs.authority import Authority
from tests.store.world import World, open_world


@pytest.fixture(scope="package")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question is asked again without a pause."""
    monkeypatch.setattr("internlm_zoo.net.retry_policy.RetryPolicy.pause", lambda *_: 0.0)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield open_world(tmp_path, stack)
