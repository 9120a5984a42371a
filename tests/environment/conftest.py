"""One world for the tests of a module, in a folder that every account may enter; a new store for each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.environment import ENVIRONMENTS, Done, Environment, run_in
from tests.world import World, open_world


@pytest.fixture(scope="module")
def hubs() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="everybodys-"))
    folder.chmod(0o777)
    with ExitStack() as stack:
        yield open_world(folder, stack)
    shutil.rmtree(folder)


@pytest.fixture
def world(hubs: World) -> Iterator[World]:
    yield hubs
    for hub in hubs.hubs.values():
        hub.clear()
        hub.requests.clear()
    for left in set(hubs.folder.iterdir()) - {hubs.root, hubs.folder / "overlay.yaml"}:
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


@pytest.fixture
def zoo_in(world: World):
    """Run the command line in an environment, by its name; its odd folder is the store."""

    def call(environment: str | Environment, *args: object, odd: Path | None = None, **environ: str) -> Done:
        chosen = ENVIRONMENTS[environment] if isinstance(environment, str) else environment
        return run_in(chosen, args, {**world.environ, **environ}, odd or world.home)

    return call
