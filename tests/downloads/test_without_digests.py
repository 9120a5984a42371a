"""Hubs that publish no digests: what was checked as it came is known to the next run, however one ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from internlm_zoo.errors import UsageError, ZooError
from internlm_zoo.registry.lock import Lock
from tests.downloads.kills import DIES
from tests.processes import start
from tests.world import FILES, REPO, WEIGHTS, World, content_below

SMALL = {path: data for path, data in FILES.items() if path != WEIGHTS}


class Shelf(SimpleHTTPRequestHandler):
    """A plain web server, which knows neither ranges nor digests. asked: paths of files."""

    asked: list[str] = []  # noqa: RUF012
    broken = False

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        if not self.path.endswith("/"):
            self.asked.append(self.path.removeprefix(f"/{REPO}/"))
            if self.broken and self.path.endswith(WEIGHTS):
                return
        super().do_GET()


@pytest.fixture
def shelf(world: World) -> Iterator[type[Shelf]]:
    """The release on it, beside the hubs."""

    class Own(Shelf):
        asked: list[str] = []  # noqa: RUF012

    handler = partial(Own, directory=str(world.root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        overlay = Path(world.environ["INTERNLM_ZOO_REGISTRY"])
        told = overlay.read_text().replace(
            "models:", "hubs:\n  shelf: {title: S, protocol: web, endpoint: %s}\nmodels:"
        )
        told += "      - {hub: shelf, repo: acme/tiny, format: hf}\n"
        overlay.write_text(told % f"http://127.0.0.1:{server.server_port}")
        yield Own
        server.shutdown()


@pytest.mark.parametrize("where", ["out", None])
def test_what_was_kept_before_a_failure_is_not_fetched_again(
    world: World, shelf: type[Shelf], where: str | None
) -> None:
    options = {"source": "shelf", "local_dir": world.folder / where if where else None, "max_workers": 1}
    shelf.broken = True
    with pytest.raises(ZooError):
        world.download(**options)
    shelf.broken = False
    kept = set(shelf.asked) - {WEIGHTS}
    shelf.asked.clear()
    done = world.download(**options)
    assert content_below(done.path) == FILES
    assert kept and not kept & set(shelf.asked)
    assert done.reused_bytes == sum(len(data) for path, data in FILES.items() if path in kept)
    assert {file.path: file.size for file in done.files} == {path: len(data) for path, data in FILES.items()}
    assert done.trust == "hub"  # other hubs vouched for all of it, also for what came before
    assert Lock.load(world.settings).find("shelf", REPO).size == sum(map(len, FILES.values()))
    assert not list(done.path.rglob(".internlm-zoo/came"))


def test_a_file_that_came_at_another_revision_is_not_taken_for_this_ones(
    world: World, shelf: type[Shelf]
) -> None:
    """Where size and name are all there is to tell."""
    options = {"source": "shelf", "local_dir": world.folder / "out"}
    world.download(**options)
    (world.home / "registry.lock").unlink()
    config = world.root / REPO / "config.json"
    config.write_bytes(config.read_bytes().swapcase())
    (world.root / REPO / "later.txt").write_text("another listing")
    for hub in world.hubs:
        world.fault("reset", "*", hub)
    with pytest.raises(UsageError, match="is there and cannot be compared"):
        world.download(**options)
    done = world.download(**options, force=True)
    assert content_below(done.path) == content_below(world.root / REPO)


def test_an_edit_of_a_file_that_came_is_noticed(world: World, shelf: type[Shelf]) -> None:
    options = {"source": "shelf", "local_dir": world.folder / "out", "max_workers": 1}
    shelf.broken = True
    with pytest.raises(ZooError):
        world.download(**options)
    kept = world.folder / "out" / "config.json"
    kept.write_bytes(kept.read_bytes()[::-1])
    shelf.broken = False
    with pytest.raises(UsageError, match=r"config\.json is there and differs"):
        world.download(**options)
    assert content_below(world.download(**options, force=True).path) == FILES


@pytest.mark.parametrize("source", ["openxlab", "modelscope"])
def test_bytes_of_a_part_that_was_gone_on_from_count_as_reused(world: World, source: str) -> None:
    (world.root / REPO / WEIGHTS).write_bytes(FILES[WEIGHTS] * 20)
    world.fault("truncate", WEIGHTS, source)
    with pytest.raises(ZooError):
        world.download(WEIGHTS, source=source, max_workers=1)
    world.hubs[source].clear()
    done = world.download(WEIGHTS, source=source)
    assert 0 < done.fetched_bytes < 20 * len(FILES[WEIGHTS])
    assert done.reused_bytes == 20 * len(FILES[WEIGHTS]) - done.fetched_bytes


def killed_at(world: World, step: int, *command: str) -> subprocess.Popen[str]:
    process = start(world, *command, before=DIES.format(step=step))
    process.communicate()
    return process


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_folder_is_finished_after_a_kill_at_any_step(world: World) -> None:
    died = step = 0
    while True:
        out = world.home / f"out-{step}"  # below the folder whose changes are counted
        command = ("download", "tiny", "--source", "openxlab", "--local-dir", str(out), "--max-workers", "1")
        if killed_at(world, step, *command).returncode == 0:
            break
        died += 1
        there = {path for path, data in content_below(out).items() if data} if out.is_dir() else set()
        before = len(world.hubs["openxlab"].requests)
        again = start(world, *command)
        _, err = again.communicate()
        assert again.returncode == 0, (step, err)
        assert content_below(out) == FILES
        asked = " ".join(str(seen) for seen in world.hubs["openxlab"].requests[before:])
        assert not any(path in asked for path in there - {"sub/读我.md"}), (step, there)
        step += 6
    assert died > 8
