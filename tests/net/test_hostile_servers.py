"""Hubs that do their worst on the wire: whatever one of them sends, it is left for the next, and of one alone
the command says in a sentence what is wrong with it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from internlm_zoo import download
from internlm_zoo.errors import UsageError, ZooError
from internlm_zoo.settings import Settings
from tests.hubs import FaultyHub
from tests.net.raw import ENDLESS, ODD, Raw, Script, dripping, saying, serving_raw
from tests.timing import PATIENCE, short_silence
from tests.world import REPO, content_below, overlay_of, write

FILES = {"config.json": b"{}\n", "README.md": b"# Tiny\n"}
OVERLAY = overlay_of(("huggingface", "modelscope"))
PROGRAM = Path(sys.executable).with_name("internlm-zoo")
# Whether it is asked for the listing that something odd comes, or for the file.
PLACES = {"listing": None, "file": "/api/"}


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    root = tmp_path_factory.mktemp("honest")
    write(root / REPO, FILES)
    with FaultyHub(root) as hub:
        yield hub


def environ_of(folder: Path, hostile: str, honest: str) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    (folder / "overlay.yaml").write_text(OVERLAY)
    return {
        "HOME": str(folder),
        "INTERNLM_ZOO_HOME": str(folder / "store"),
        "INTERNLM_ZOO_REGISTRY": str(folder / "overlay.yaml"),
        "INTERNLM_ZOO_TIMEOUT": str(short_silence(2.0)),
        "INTERNLM_ZOO_TRIES": "1",
        "HF_ENDPOINT": hostile,
        "MODELSCOPE_ENDPOINT": honest,
    }


def hostile(script: Script, honest: FaultyHub, place: str, *, asks: bool = True) -> Raw:
    lets = PLACES[place]
    return Raw(script, asks, lets=(lets, int(honest.url.rpartition(":")[2])) if lets else None)


@dataclass(frozen=True)
class Ended:
    """error: None where the release came."""

    error: ZooError | None
    hits: int


def downloaded(folder: Path, script: Script, honest: FaultyHub, place: str, source: str) -> Ended:
    with serving_raw(hostile(script, honest, place)) as server:
        settings = Settings.from_environment(environ_of(folder, server.url, honest.url))
        error = None
        try:
            assert content_below(download("tiny", settings=settings, source=source).path) == FILES
        except ZooError as caught:
            error = caught
        return Ended(error, server.hits)


def everywhere(
    scripts: Mapping[str, Script], folder: Path, honest: FaultyHub, place: str, source: str
) -> Mapping[str, Ended]:
    """What becomes of each answer; several at once, for some take their time."""
    with ThreadPoolExecutor(len(ENDLESS)) as pool:
        runs = {
            name: pool.submit(downloaded, folder / f"{number}", script, honest, place, source)
            for number, (name, script) in enumerate(scripts.items())
        }
        return {name: run.result() for name, run in runs.items()}


# What never ends


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_who_never_begins_to_send_is_left_for_the_next(tmp_path: Path, honest: FaultyHub, place: str) -> None:
    for name, ended in everywhere(ENDLESS, tmp_path, honest, place, "auto").items():
        assert ended.error is None and ended.hits, (name, ended)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_who_never_begins_to_send_is_named(tmp_path: Path, honest: FaultyHub, place: str) -> None:
    for name, ended in everywhere(ENDLESS, tmp_path, honest, place, "huggingface").items():
        assert ended.error is not None and "127.0.0.1" in ended.error.what, (name, ended)
        assert ended.error.exit_code == (6 if (name, place) == ("redirects", "file") else 5), name


@pytest.mark.slow
def test_nothing_is_left_that_holds_up_the_end_of_the_process(tmp_path: Path, honest: FaultyHub) -> None:
    with serving_raw(hostile(ENDLESS["a header"], honest, "listing")) as server:
        environ = {**os.environ, **environ_of(tmp_path / "home", server.url, honest.url)}
        done = subprocess.run(
            [PROGRAM, "download", "tiny"], env=environ, capture_output=True, timeout=PATIENCE
        )
    assert done.returncode == 0 and b"Traceback" not in done.stderr


@pytest.mark.slow
def test_who_has_cost_one_file_its_patience_is_not_asked_first_for_the_others(
    tmp_path: Path, honest: FaultyHub
) -> None:
    with serving_raw(hostile(ENDLESS["a header"], honest, "file")) as server:
        environ = environ_of(tmp_path / "home", server.url, honest.url)
        settings = Settings.from_environment(environ)
        assert content_below(download("tiny", settings=settings, max_workers=1).path) == FILES
        assert server.hits == 1 < len(FILES)


@pytest.mark.slow
def test_a_hub_that_does_not_answer_the_probe_keeps_nobody_from_the_other(
    tmp_path: Path, honest: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is still being asked for its listing when all is here."""
    monkeypatch.setattr("internlm_zoo.downloads.release.WORTH", 0)
    asked, over = threading.Event(), threading.Event()

    def never() -> Iterator[bytes]:
        asked.set()
        over.wait()
        yield b""

    with serving_raw(Raw(never)) as server:
        environ = environ_of(tmp_path / "home", honest.url, server.url)
        settings = Settings.from_environment({**environ, "INTERNLM_ZOO_TIMEOUT": str(PATIENCE)})
        try:
            assert content_below(download("tiny", settings=settings).path) == FILES
            assert asked.wait(PATIENCE)
            waiting = {thread.name for thread in threading.enumerate()}
            assert "look at modelscope" in waiting
        finally:
            over.set()


@pytest.mark.slow
def test_a_greeting_of_tls_that_never_ends_is_left(tmp_path: Path, honest: FaultyHub) -> None:
    """A record that says it has 16 kB, byte by byte."""
    script = dripping(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\x00")
    with serving_raw(Raw(script)) as server:
        environ = environ_of(tmp_path / "home", server.url.replace("http:", "https:"), honest.url)
        settings = Settings.from_environment(environ)
        assert content_below(download("tiny", settings=settings).path) == FILES
        assert server.hits


@pytest.mark.slow
def test_a_name_that_is_looked_up_for_ever_is_left(
    tmp_path: Path, honest: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's search cannot be stopped; one thread waits for it, however often it is asked."""
    truth, over = socket.getaddrinfo, threading.Event()

    def search(host: Any, *rest: Any, **more: Any) -> Any:
        return over.wait() if host == "slow.invalid" else truth(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", search)
    settings = Settings.from_environment(environ_of(tmp_path / "home", "http://slow.invalid", honest.url))
    try:
        assert content_below(download("tiny", settings=settings).path) == FILES
        assert [thread.name for thread in threading.enumerate()].count("look up slow.invalid") == 1
    finally:
        over.set()


# What is out of order


@pytest.fixture
def small_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that bombs of 100 MB go off."""
    monkeypatch.setattr("internlm_zoo.sources.hub_client.LARGEST", 1 << 20)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_who_answers_out_of_order_is_left_for_the_next(
    tmp_path: Path, honest: FaultyHub, place: str, small_answers: None
) -> None:
    for name, ended in everywhere(ODD, tmp_path, honest, place, "auto").items():
        assert ended.error is None and ended.hits, (name, ended)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_who_answers_out_of_order_is_named(
    tmp_path: Path, honest: FaultyHub, place: str, small_answers: None
) -> None:
    for name, ended in everywhere(ODD, tmp_path, honest, place, "huggingface").items():
        assert ended.error is not None and ended.error.exit_code in (5, 6), (name, ended)
        assert len(str(ended.error)) < 400, name


@pytest.mark.parametrize(
    ("name", "place", "expected"),
    [
        ("length of 5,000 digits", "file", 6),
        ("wait until 99999", "listing", 5),
        ("wait until 99999", "file", 5),
        ("moved to a long label", "listing", 5),
        ("moved to half an address", "file", 6),
    ],
)
def test_the_command_says_what_is_wrong_in_a_sentence(
    zoo: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    honest: FaultyHub,
    name: str,
    place: str,
    expected: int,
) -> None:
    with serving_raw(hostile(ODD[name], honest, place)) as server:
        for variable, value in environ_of(tmp_path / "home", server.url, honest.url).items():
            monkeypatch.setenv(variable, value)
        code, _, err = zoo("download", "tiny", "--source", "huggingface")
        assert code == expected
        assert "127.0.0.1" in err and "Traceback" not in err and max(map(len, err.splitlines())) < 400
        assert zoo("download", "tiny")[0] == 0


def test_a_server_that_speaks_before_it_is_asked_is_left(tmp_path: Path, honest: FaultyHub) -> None:
    with serving_raw(hostile(saying(b"220 mail.example ESMTP\r\n"), honest, "listing", asks=False)) as server:
        settings = Settings.from_environment(environ_of(tmp_path / "home", server.url, honest.url))
        assert content_below(download("tiny", settings=settings).path) == FILES


@pytest.mark.parametrize("seconds", ["1e308", "1e999", "nan", "-1"])
def test_a_patience_that_no_clock_takes_is_the_users_mistake(tmp_path: Path, seconds: str) -> None:
    environ = environ_of(tmp_path / "home", "http://127.0.0.1:9", "http://127.0.0.1:9")
    settings = Settings.from_environment({**environ, "INTERNLM_ZOO_TIMEOUT": seconds})
    with pytest.raises(UsageError, match=f"INTERNLM_ZOO_TIMEOUT is '{seconds}', not a number above 0"):
        download("tiny", settings=settings)
