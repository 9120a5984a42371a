"""What a hub, or a gateway before it, says once and does not mean: it is asked again before it counts."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from internlm_zoo.errors import NetworkError, NotFoundError
from internlm_zoo.files import Digests, File
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.progress import Progress
from internlm_zoo.registry import Hub
from internlm_zoo.settings import Settings
from internlm_zoo.sources import open_source
from internlm_zoo.sources.base import Location
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.engine import transfer
from internlm_zoo.transfer.ranges import Ranges
from internlm_zoo.transfer.values import Endpoint, Fetched, TransferRequest
from tests.hubs import FaultyHub
from tests.timing import PATIENCE

REPO, PATH = "acme/tiny", "weights.bin"
DATA = random.Random(7).randbytes(300_001)
SHA256 = hashlib.sha256(DATA).hexdigest()
# protocol -> where its hub is, and what a listing's path looks like
PROTOCOLS = {
    "huggingface": ("", "/api/models/*"),
    "modelscope": ("", "/api/v1/models/*/repo/files"),
    "modelers": ("", "/api/v1/file/*"),
    "openxlab": ("", "/api/v1/model-center/*"),
    "web": ("/web", "/web/*/"),
}
ONCE = [202, 204, 206, 429, 503, "empty", "html", "truncate", "short-length", "reset"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    root = tmp_path_factory.mktemp("hub")
    (root / REPO).mkdir(parents=True)
    (root / REPO / PATH).write_bytes(DATA)
    (root / REPO / "nothing.txt").write_bytes(b"")
    with FaultyHub(root) as hub:
        yield hub


@pytest.fixture(autouse=True)
def well(hub: FaultyHub) -> None:
    hub.clear()
    hub.requests.clear()


def listed(protocol: str, url: str, folder: Path) -> set[str]:
    hub = Hub(name="somewhere", title="Somewhere", protocol=protocol, endpoint=url + PROTOCOLS[protocol][0])
    source = open_source(hub, Settings(home=folder, environ={"HOME": str(folder)}))
    return {file.path for file in source.resolve(REPO).files}


@pytest.mark.parametrize("kind", ONCE)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_listing_is_asked_for_again(hub: FaultyHub, tmp_path: Path, protocol: str, kind: str | int) -> None:
    hub.fault(kind, PROTOCOLS[protocol][1], times=1, by=10)
    assert listed(protocol, hub.url, tmp_path) == {PATH, "nothing.txt"}
    assert [seen.fault for seen in hub.requests] == [kind, None]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_connection_that_is_closed_before_the_answer_is_opened_again(
    hub: FaultyHub, tmp_path: Path, protocol: str
) -> None:
    with first_closes(int(hub.url.rpartition(":")[2])) as url:
        assert listed(protocol, url, tmp_path) == {PATH, "nothing.txt"}


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_listing_is_not_asked_for_sooner_than_the_hub_wants(
    hub: FaultyHub, tmp_path: Path, protocol: str
) -> None:
    hub.fault(202, PROTOCOLS[protocol][1], times=1, retry_after="1")
    listed(protocol, hub.url, tmp_path)
    first, second = hub.requests
    assert first.ended is not None and second.began - first.ended >= 0.9


@pytest.mark.parametrize("kind", [202, "empty"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_stays_so_is_an_error_after_two_questions(
    hub: FaultyHub, tmp_path: Path, protocol: str, kind: str | int
) -> None:
    hub.fault(kind, PROTOCOLS[protocol][1])
    with pytest.raises((NetworkError, NotFoundError), match="somewhere"):
        listed(protocol, hub.url, tmp_path)
    assert len(hub.requests) == 2


# Bytes


@pytest.fixture
def fetch(tmp_path: Path, hub: FaultyHub) -> Iterator[Callable[..., Fetched]]:
    client = Client({}, RetryPolicy(connect=PATIENCE, stall=PATIENCE, tries=3, first_wait=0.01))

    def fetch(wanted: File = File(PATH, len(DATA), Digests(SHA256))) -> Fetched:
        door = Endpoint("hub", lambda: Location(f"{hub.url}/{REPO}/resolve/main/{wanted.path}"))
        return transfer(
            TransferRequest(wanted, [door], tmp_path / "partial", "key"),
            client=client,
            stop=threading.Event(),
            progress=Progress(),
        )

    yield fetch
    client.close()


KNOWN = {"size and digest": File(PATH, len(DATA), Digests(SHA256)), "nothing": File(PATH)}


@pytest.mark.parametrize("kind", [202, 204, 429, 503, "empty", "html", "truncate", "reset"])
@pytest.mark.parametrize("known", KNOWN)
def test_bytes_are_asked_for_again(
    hub: FaultyHub, fetch: Callable[..., Fetched], known: str, kind: str | int
) -> None:
    hub.fault(kind, PATH, times=1)
    assert fetch(KNOWN[known]).path.read_bytes() == DATA
    assert [seen.fault for seen in hub.downloads()] == [kind, None]


@pytest.mark.parametrize("kind", ["html", "empty", 202])
def test_what_is_here_is_kept_when_something_else_comes_once(
    hub: FaultyHub, fetch: Callable[..., Fetched], kind: str | int
) -> None:
    hub.fault("reset", PATH, times=1, after=200_000)
    hub.fault(kind, PATH, times=1)
    done = fetch()
    assert done.path.read_bytes() == DATA
    assert hub.downloads()[-1].headers["Range"] == "bytes=200000-"


@pytest.mark.parametrize("kind", [202, "empty", "html"])
def test_a_stretch_is_asked_for_again(hub: FaultyHub, kind: str | int) -> None:
    client = Client({}, RetryPolicy(connect=PATIENCE, stall=PATIENCE, tries=3, first_wait=0.01))
    door = Endpoint("hub", lambda: Location(f"{hub.url}/{REPO}/resolve/main/{PATH}"))
    hub.fault(kind, PATH, times=1)
    stretch = Ranges(PATH, KNOWN["size and digest"], door, client).chunks(1000, 2000)
    assert b"".join(stretch) == DATA[1000:2000]
    client.close()


def test_a_file_of_which_nobody_knows_the_length_is_empty_when_it_is_so_twice(
    hub: FaultyHub, fetch: Callable[..., Fetched]
) -> None:
    hub.fault("empty", "/*/nothing.txt")
    done = fetch(File("nothing.txt"))
    assert done.path.read_bytes() == b""
    assert len(hub.requests) == 2 and done.notes == ()


class first_closes:
    """A port that closes its first connection when it is asked something, and then leads to the hub."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._stack = ExitStack()

    def __enter__(self) -> str:
        listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _serve(self, listener: socket.socket) -> None:
        first, _ = listener.accept()
        first.recv(4096)
        first.close()
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._lead, args=(client,), daemon=True).start()

    def _lead(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._to)) as hub:
            threading.Thread(target=_copy, args=(client, hub), daemon=True).start()
            _copy(hub, client)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        time.sleep(0)  # the other side has gone
