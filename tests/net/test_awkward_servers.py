"""Plain web servers with habits of their own: ranges that they do not have, directories that have moved."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from internlm_zoo import download
from internlm_zoo.downloads.result import DownloadResult
from internlm_zoo.errors import IntegrityError, NetworkError, NotFoundError
from internlm_zoo.files import File
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Location
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.engine import transfer
from internlm_zoo.transfer.values import Endpoint, Fetched, TransferRequest
from internlm_zoo.transfer.workers import Stopped
from tests.net.awkward import Awkward, serving
from tests.world import content_below, overlay_of

FILES = {"config.json": b"{}\n", "empty.txt": b"", "sub/weights.bin": random.Random(4).randbytes(50_001)}
THERE = {f"acme/tiny/{path}": content for path, content in FILES.items()}
OVERLAY = f"""
hubs:
  shelf: {{title: Shelf, protocol: web, endpoint_env: [SHELF_ENDPOINT]}}
{overlay_of(["shelf"])}"""


def downloaded(endpoint: str, folder: Path) -> DownloadResult:
    (folder / "overlay.yaml").write_text(OVERLAY)
    environ = {
        "HOME": str(folder),
        "INTERNLM_ZOO_HOME": str(folder / "store"),
        "INTERNLM_ZOO_REGISTRY": str(folder / "overlay.yaml"),
        "INTERNLM_ZOO_TRIES": "2",
        "SHELF_ENDPOINT": endpoint,
    }
    return download("tiny", settings=Settings.from_environment(environ), source="shelf")


@pytest.mark.parametrize("tells", [True, False], ids=["with the length", "without"])
def test_an_empty_file_of_which_there_is_no_range_is_empty(tmp_path: Path, tells: bool) -> None:
    with serving(Awkward(THERE, tells=tells)) as server:
        done = downloaded(server.url, tmp_path)
        assert content_below(done.path) == FILES
        asked = [part for path, part in server.seen if path.endswith("empty.txt")]
    assert asked == ["bytes=0-", *([] if tells else [None])]
    assert not any("empty.txt" in note for note in done.notes)


@pytest.mark.parametrize("tells", [True, False], ids=["with the length", "without"])
def test_a_partial_file_that_is_complete_is_not_fetched_again(tmp_path: Path, tells: bool) -> None:
    """As a run leaves it that was killed after the last byte, of a file whose length no listing says."""
    path = "acme/tiny/sub/weights.bin"
    with serving(Awkward(THERE, tells=tells)) as server:
        for stops in (True, False):
            fetched = fetch(File("weights.bin"), f"{server.url}/{path}", tmp_path, stops=stops)
        assert fetched is not None and fetched.path.read_bytes() == THERE[path]
        size = len(THERE[path])
        assert fetched.resumed == size and fetched.served == {}
        asked = [part for _, part in server.seen]
    assert asked == ["bytes=0-", f"bytes={size}-", *([] if tells else [f"bytes={size - 1}-{size - 1}"])]


def fetch(wanted: File, url: str, folder: Path, *, stops: bool) -> Fetched | None:
    """stops: as soon as all is here."""
    stop, came = threading.Event(), [0]

    class Until(Progress):
        def advance(self, path: str, amount: int, source: str | None = None) -> None:
            came[0] += amount
            if stops and came[0] == len(THERE["acme/tiny/sub/weights.bin"]):
                stop.set()

    client = Client({}, RetryPolicy(tries=2, first_wait=0.01))
    door = Endpoint("shelf", lambda: Location(url))
    try:
        return transfer(
            TransferRequest(wanted, [door], folder, "key"), client=client, stop=stop, progress=Until()
        )
    except Stopped:
        return None
    finally:
        client.close()


# A listing that has moved


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_directory_that_has_moved_is_read_where_it_is_now(tmp_path: Path, host: str) -> None:
    with serving(Awkward({f"new/{path}": content for path, content in FILES.items()})) as there:
        target = there.url.replace("127.0.0.1", host)
        with serving(Awkward({}, moved={"acme/tiny/": f"{target}/new/"})) as server:
            assert content_below(downloaded(server.url, tmp_path).path) == FILES


def test_a_directory_that_has_moved_to_nowhere_names_both(tmp_path: Path) -> None:
    with serving(Awkward({})) as there:
        moved = Awkward({}, moved={"acme/": f"{there.url}/new/"})
        with serving(moved) as server, pytest.raises(NotFoundError) as caught:
            downloaded(server.url, tmp_path)
    said = f"{caught.value.what} {caught.value.where}"
    assert there.url.partition("://")[2] in said


def test_a_listing_of_openxlab_that_has_moved_names_the_target(tmp_path: Path) -> None:
    """It is asked for by POST, which nobody may send elsewhere unasked."""
    from aiohttp import web

    from internlm_zoo.registry import Hub
    from internlm_zoo.serve.background import start
    from internlm_zoo.sources import open_source

    async def moved(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("https://ali:sesame-sesame@new.example/api")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", moved)
    with start(app) as server, pytest.raises(NetworkError) as caught:
        hub = Hub(name="somewhere", title="Somewhere", protocol="openxlab", endpoint=server.url)
        open_source(hub, Settings(home=tmp_path, environ={"HOME": str(tmp_path)})).resolve("acme/tiny")
    assert "has moved acme/tiny to https://new.example/api" in caught.value.what
    assert "sesame" not in str(caught.value)


def test_a_range_beyond_a_file_that_shrank_is_no_end(tmp_path: Path) -> None:
    """It ends before what is here: that is another file."""
    before = {"weights.bin": THERE["acme/tiny/sub/weights.bin"]}
    with serving(Awkward(before)) as server:
        wanted = File("weights.bin", len(before["weights.bin"]) + 10)
        server.cuts = 40_000
        with pytest.raises((IntegrityError, NetworkError)):
            fetch(wanted, f"{server.url}/weights.bin", tmp_path, stops=False)
