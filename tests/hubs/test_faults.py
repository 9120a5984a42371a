"""Each fault does to a plain HTTP client what its name says, over each protocol's way to the bytes."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from tests.hubs import FaultyHub
from tests.timing import PATIENCE, short_silence

CONTENT = bytes(range(256)) * 400
NAME = "weights.bin"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "acme" / "tiny"
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(CONTENT)
    (folder / "config.json").write_text("{}")
    return tmp_path


@pytest.fixture
def hub(root: Path) -> Iterator[FaultyHub]:
    with FaultyHub(root) as hub:
        yield hub


def openxlab_listing(hub: FaultyHub) -> dict[str, dict[str, str]]:
    url = hub.url + "/api/v1/model-center/api/v1/cli/repository/getFileDownloadUrl"
    body = {"userName": "acme", "repositoryName": "tiny", "modelNames": None, "filePaths": None}
    answer = urllib3.request("POST", url, json=body, retries=False).json()
    return {**answer["data"]["data"]["modelNames"], **answer["data"]["data"]["filePaths"]}


def url_of(hub: FaultyHub, protocol: str, name: str = NAME) -> str:
    return {
        "huggingface": lambda: f"{hub.url}/acme/tiny/resolve/main/{name}",
        "modelscope": lambda: f"{hub.url}/api/v1/models/acme/tiny/repo?Revision=master&FilePath={name}",
        "modelers": lambda: f"{hub.url}/api/v1/file/acme/tiny/main/media/{name}",
        "openxlab": lambda: openxlab_listing(hub)[name]["url"],
        "web": lambda: f"{hub.url}/web/acme/tiny/{name}",
    }[protocol]()


PROTOCOLS = pytest.mark.parametrize("protocol", ["huggingface", "modelscope", "modelers", "openxlab", "web"])


def get(url: str, **headers: str) -> urllib3.BaseHTTPResponse:
    timeout = urllib3.Timeout(PATIENCE)
    return urllib3.request("GET", url, headers=headers, retries=False, timeout=timeout, decode_content=False)


@PROTOCOLS
def test_flip_spoils_one_byte_as_often_as_asked(hub: FaultyHub, protocol: str) -> None:
    hub.fault("flip", times=1, after=1000)
    url = url_of(hub, protocol)
    assert get(url, Range="bytes=0-999").data == CONTENT[:1000]
    spoilt = get(url, Range="bytes=900-1099").data
    assert [at for at in range(200) if spoilt[at] != CONTENT[900 + at]] == [100]
    assert get(url).data == CONTENT
    assert [seen.fault for seen in hub.downloads()] == [None, "flip", None]


@PROTOCOLS
@pytest.mark.parametrize(
    ("kind", "announced"), [("truncate", len(CONTENT)), ("long-length", len(CONTENT) + 1000)]
)
def test_a_body_shorter_than_announced_breaks_off(
    hub: FaultyHub, protocol: str, kind: str, announced: int
) -> None:
    hub.fault(kind, NAME)
    answer = urllib3.request(
        "GET", url_of(hub, protocol), retries=False, preload_content=False, timeout=PATIENCE
    )
    assert answer.headers["Content-Length"] == str(announced)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        answer.read()


@PROTOCOLS
def test_lies_about_length_and_range(hub: FaultyHub, protocol: str) -> None:
    url = url_of(hub, protocol)
    hub.fault("short-length", times=1, by=5)
    assert get(url).data == CONTENT[:-5]
    hub.fault("no-length", times=1)
    answer = get(url)
    assert "Content-Length" not in answer.headers and answer.data == CONTENT
    hub.fault("ignore-range", times=1)
    answer = get(url, Range="bytes=10-19")
    assert (answer.status, answer.data) == (200, CONTENT)
    hub.fault("wrong-range", times=1)
    answer = get(url, Range="bytes=10-19")
    assert (answer.status, answer.data) == (206, CONTENT[11:21])
    hub.fault("part", times=1)
    answer = get(url, Range="bytes=10-19")
    assert (answer.status, answer.data) == (206, CONTENT[10:15])


@PROTOCOLS
def test_other_content_than_the_file(hub: FaultyHub, protocol: str) -> None:
    url = url_of(hub, protocol)
    hub.fault("html", times=1)
    answer = get(url)
    assert answer.headers["Content-Type"].startswith("text/html") and b"<html>" in answer.data
    hub.fault("encoding", times=1)
    answer = get(url)
    assert answer.headers["Content-Encoding"] == "gzip" and gzip.decompress(answer.data) == CONTENT
    hub.fault("lfs-pointer", times=1)
    assert get(url).data.startswith(b"version https://git-lfs")
    hub.fault("etag-changes", times=2)
    assert len({get(url).headers["ETag"] for _ in range(3)}) == 3


@PROTOCOLS
def test_a_connection_that_stalls_hangs_or_breaks(hub: FaultyHub, protocol: str) -> None:
    url = url_of(hub, protocol)
    hub.fault("stall", times=1, after=5000, seconds=0.3)
    began = time.monotonic()
    assert get(url).data == CONTENT and time.monotonic() - began >= 0.3
    hub.fault("stall", times=1, after=5000)
    short = short_silence(0.3)
    answer = urllib3.request("GET", url, retries=False, preload_content=False, timeout=short)
    assert answer.read(5000) == CONTENT[:5000]
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        answer.read(1)
    hub.fault("hang", times=1)
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        urllib3.request("GET", url, retries=False, timeout=short)
    hub.fault("reset", times=1, after=5000)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        get(url)
    assert hub.downloads()[-1].sent == 5000


@PROTOCOLS
def test_slow_trickles_and_delay_is_late(hub: FaultyHub, protocol: str) -> None:
    url = url_of(hub, protocol)
    hub.fault("slow", rate=2000)
    hub.fault("delay", seconds=0.2)
    began = time.monotonic()
    assert get(url, Range="bytes=0-999").data == CONTENT[:1000]
    assert time.monotonic() - began >= 0.6


@PROTOCOLS
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_statuses(hub: FaultyHub, protocol: str, status: int) -> None:
    url = url_of(hub, protocol)
    hub.fault(status, NAME, times=1, retry_after=7)
    answer = get(url)
    assert (answer.status, answer.headers["Retry-After"]) == (status, "7")
    assert get(url).data == CONTENT


@PROTOCOLS
@pytest.mark.parametrize("to", ["other-host", "other-port", "same"])
def test_redirects_lead_to_the_bytes_and_are_recorded(hub: FaultyHub, protocol: str, to: str) -> None:
    hub.fault("redirect", to=to)
    url = url_of(hub, protocol)
    answer = urllib3.PoolManager().request("GET", url)
    assert answer.data == CONTENT
    hosts = [seen.host for seen in hub.downloads()]
    assert len(hosts) == 2 and (hosts[0] == hosts[1]) == (to == "same")
    assert (hosts[0].partition(":")[0] == hosts[1].partition(":")[0]) == (to != "other-host")


def test_listings_can_be_hit_and_the_whole_hub_can_be_dead(hub: FaultyHub) -> None:
    hub.fault(503, "/api/*")
    assert get(hub.url + "/api/models/acme/tiny").status == 503
    assert get(url_of(hub, "huggingface")).data == CONTENT
    hub.clear()
    hub.fault("reset", "/*")
    for path in ("/api/models/acme/tiny", "/acme/tiny/resolve/main/config.json"):
        with pytest.raises(urllib3.exceptions.ProtocolError):
            get(hub.url + path)


def test_hostile_names_and_wrong_digests_are_listed_by_every_protocol(hub: FaultyHub) -> None:
    def listings() -> list[dict[str, str | None]]:
        tree = get(hub.url + "/api/models/acme/tiny/tree/main?recursive=true").json()
        files = get(hub.url + "/api/v1/models/acme/tiny/repo/files?Recursive=True").json()["Data"]["Files"]
        folder = get(hub.url + "/api/v1/file/acme/tiny?path=&ref=main").json()["data"]["tree"]
        return [
            {node["path"]: node["oid"] for node in tree if node["type"] == "file"},
            {file["Path"]: file["Sha256"] for file in files if file["Type"] == "blob"},
            {node["path"]: node["etag"] for node in folder},
            dict.fromkeys(openxlab_listing(hub)),
        ]

    honest = listings()
    hub.fault("evil-name", "../evil")
    hub.fault("wrong-digest", "config.json")
    lying = listings()
    for before, after in zip(honest, lying, strict=True):
        assert set(after) == {*before, "../evil"}
    for before, after in zip(honest[:3], lying[:3], strict=True):
        assert after["config.json"] != before["config.json"] and after[NAME] == before[NAME]


def test_every_request_is_recorded_with_its_headers(hub: FaultyHub) -> None:
    get(url_of(hub, "huggingface"), Range="bytes=5-9", Authorization="Bearer x")
    seen = hub.requests[-1]
    assert (seen.method, seen.file, seen.status, seen.sent) == ("GET", NAME, 206, 5)
    assert seen.headers["range"] == "bytes=5-9" and seen.headers["authorization"] == "Bearer x"
    assert f"{seen.scheme}://{seen.host}" == hub.url and hub.sent == 5
    hub.wait(lambda: seen.ended is not None)  # the client may be told before the hub notes it
    assert seen.ended is not None and seen.began <= seen.ended <= time.monotonic()


def test_connections_can_be_told_apart(hub: FaultyHub) -> None:
    with urllib3.PoolManager(maxsize=1) as pool:
        for _ in range(2):
            pool.request("GET", url_of(hub, "huggingface"))
    get(url_of(hub, "huggingface"))
    first, second, third = (seen.peer for seen in hub.downloads())
    assert first == second != third


def test_a_web_servers_page_links_to_what_there_is_and_what_is_not(hub: FaultyHub) -> None:
    hub.fault("evil-name", "nul.txt")
    page = get(hub.url + "/web/acme/tiny/").data
    assert all(f'href="{name}"'.encode() in page for name in (NAME, "config.json", "nul.txt"))


def test_signed_urls_run_out(root: Path) -> None:
    ahead = [0.0]
    with FaultyHub(root, url_seconds=60, clock=lambda: time.time() + ahead[0]) as hub:
        url = url_of(hub, "openxlab")
        assert get(url).data == CONTENT
        ahead[0] = 61
        answer = get(url)
        assert answer.status == 403 and b"expired" in answer.data
        assert get(url_of(hub, "openxlab")).data == CONTENT


def test_a_closed_hub_refuses_connections_at_once(root: Path) -> None:
    hub = FaultyHub(root)
    hub.fault("hang", "/*")
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        urllib3.request("GET", hub.url + "/api/models/acme/tiny", retries=False, timeout=0.2)
    hub.close()
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        get(hub.url + "/api/models/acme/tiny")


def test_statuses_read_like_the_hubs(hub: FaultyHub) -> None:
    hub.fault(404, "/*")
    answer = get(hub.url + "/api/models/acme/tiny")
    assert answer.headers["X-Error-Code"] == "EntryNotFound"
    assert json.loads(answer.data)["Success"] is False
