"""A file read by ranges: what is read is what is digested, whoever asks and however often."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from internlm_zoo.errors import AccessError, IntegrityError
from internlm_zoo.files import File
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.remote.file import RangedFile
from internlm_zoo.remote.folder import RemoteFolder, open_remote
from internlm_zoo.settings import Settings
from internlm_zoo.sources.base import Location
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.ranges import Ranges
from internlm_zoo.transfer.values import Endpoint
from tests.hubs import FaultyHub

NAME = "model.safetensors"
SIZE = 3_000_000
CONTENT = bytes((n * n + n // 251) % 256 for n in range(SIZE))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FaultyHub]:
    folder = tmp_path / "hub" / "acme" / "one"
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(CONTENT)
    with FaultyHub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def folder(tmp_path: Path, hub: FaultyHub) -> Iterator[RemoteFolder]:
    environ = {
        "INTERNLM_ZOO_HOME": str(tmp_path / "home"),
        "INTERNLM_ZOO_TRIES": "3",
        "HF_ENDPOINT": hub.url,
        "INTERNLM_ZOO_OPENXLAB_ENDPOINT": hub.url,
    }
    with open_remote("openxlab:acme/one", Settings.from_environment(environ)) as folder:
        yield folder


@pytest.fixture
def file(folder: RemoteFolder) -> RangedFile:
    file = folder.open(NAME)
    assert isinstance(file, RangedFile)
    return file


def read_all(file: RangedFile, start: int = 0) -> bytes:
    file.expect(start, SIZE - start)
    return b"".join(file.read(at, min(100_000, SIZE - at)) for at in range(start, SIZE, 100_000))


def test_all_of_it_in_one_request_is_digested(file: RangedFile, hub: FaultyHub) -> None:
    assert file.read(0, 8) == CONTENT[:8]
    assert read_all(file) == CONTENT
    assert "sha256" in file.provenance()
    assert hub.sent < SIZE + 50_000


@pytest.mark.parametrize("at", [100, 1_000_050], ids=["in the header", "in a range fetched beforehand"])
def test_bytes_that_come_differently_the_second_time_are_refused(
    file: RangedFile, hub: FaultyHub, at: int
) -> None:
    file.read(0, 8)
    file.prefetch([(1_000_000, 256)])
    hub.fault("flip", NAME, after=at)
    with pytest.raises(IntegrityError, match="second time"):
        read_all(file)


def test_a_range_too_large_to_keep_leaves_the_file_without_digest(
    file: RangedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("internlm_zoo.remote.file._KEPT", 1000)
    file.keep(0, 2000)  # so it is going to be fetched again and again, and digested once
    assert read_all(file) == CONTENT
    assert file.provenance() == {"verified": "per tensor"}


def test_a_link_that_expired_under_many_readers_is_asked_for_once_more(
    hub: FaultyHub, tmp_path: Path
) -> None:
    (tmp_path / "hub" / "acme" / "one" / "old.safetensors").write_bytes(CONTENT)
    asked: list[str] = []

    def locate() -> Location:
        asked.append(NAME if asked else "old.safetensors")
        return Location(f"{hub.url}/acme/one/resolve/main/{asked[-1]}")

    patience = RetryPolicy(tries=2)
    with closing(Client({}, patience)) as client:
        file = RangedFile(Ranges(NAME, File(NAME, SIZE), Endpoint("hub", locate), client), File(NAME, SIZE))
        file.read(0, 8)
        hub.fault("expired", "old.safetensors")
        ranges = [(at, 256) for at in range(50_000, 2_450_000, 50_000)]
        file.prefetch(ranges)
        assert all(file.read(at, size) == CONTENT[at : at + size] for at, size in ranges)
    assert asked == ["old.safetensors", NAME]


def test_a_link_that_is_refused_from_the_start_is_not_asked_for_for_ever(
    file: RangedFile, hub: FaultyHub
) -> None:
    file.read(0, 8)
    hub.fault("expired", NAME)
    with pytest.raises(AccessError):
        file.prefetch([(at, 256) for at in range(50_000, 2_450_000, 50_000)])
    assert len(hub.downloads(NAME)) < 100
