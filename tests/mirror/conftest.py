from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import internlm_zoo.cli.mirror  # noqa: F401 - importing registers the commands
from internlm_zoo.cli.shell import run
from tests.mirror.world import World, open_world

Shell = Callable[..., tuple[int, str]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


@pytest.fixture
def shell(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Runs a verb on the world's mirror file; gives (exit code, stdout)."""
    settings = world.settings
    for name, value in settings.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INTERNLM_ZOO_HOME", str(settings.home))
    monkeypatch.setenv("INTERNLM_ZOO_REGISTRY", str(settings.registry))

    def call(verb: str, *options: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run(["mirror", verb, str(world.file), *options])
        return code, capsys.readouterr().out

    return call
