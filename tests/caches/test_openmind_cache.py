"""What openmind_hub, the client of Modelers, has in its cache is not fetched again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.caches.official import python
from tests.hubs import FaultyHub
from tests.hubs.authority import Authority
from tests.openmind import client_python, leading_to
from tests.world import FILES, REPO, World, content_below

MOVED = pytest.param({"XDG_CACHE_HOME": "elsewhere"}, id="moved", marks=pytest.mark.slow)


@pytest.fixture(params=[pytest.param({}, id="usual"), MOVED])
def cache(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Path:
    """The release in the client's cache, as the client put it there."""
    authority = Authority(tmp_path)
    world.environ |= {name: str(world.folder / folder) for name, folder in request.param.items()}
    with (
        FaultyHub(world.root, tls=authority.server) as hub,
        leading_to(hub.url, authority, tmp_path) as environment,
    ):
        program = f"from openmind_hub import snapshot_download as get; print(get({REPO!r}))"
        return Path(python(world, program, client_python("modelers"), **environment))


@pytest.mark.parametrize("source", ["modelers", "huggingface"])
def test_a_release_in_the_openmind_cache_costs_no_bytes(world: World, cache: Path, source: str) -> None:
    assert content_below(cache) == FILES
    done = world.download(source=source, format="hf")
    assert content_below(done.path) == FILES
    assert sum(world.sent.values()) == 0
    assert done.notes == (f"{len(FILES)} of the files are from the openMind cache",)


def test_wrong_bytes_in_the_openmind_cache_are_not_taken(world: World, cache: Path) -> None:
    for path in cache.rglob("*"):
        if path.is_file():
            path.resolve().write_bytes(bytes(path.stat().st_size))
    assert content_below(world.download(source="modelers", format="hf").path) == FILES
    assert sum(world.sent.values()) >= sum(map(len, FILES.values())) - len(FILES)
