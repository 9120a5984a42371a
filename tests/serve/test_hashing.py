"""While files are hashed that nobody has hashed yet: others are served, clients wait, a signal ends it. And
what was hashed, or is in the index, holds for the file that it was."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

import internlm_zoo.serve.pending
from internlm_zoo.errors import IntegrityError, UsageError
from internlm_zoo.serve.app import build_app
from internlm_zoo.serve.background import Server, start
from tests.serve import content
from tests.serve.conftest import Run
from tests.serve.indexed import indexed, write_index
from tests.serve.test_command import first_document, serving
from tests.serve.test_protocols import ask, download_urls
from tests.timing import PATIENCE

REPO, HUGE = content.REPO, "acme/huge"
WEIGHTS = content.FILES["model.safetensors"]
# Of zeros that take no room: longer than any test, and as long as a client has to wait for.
ENDLESS, LONG = 1 << 40, 3 << 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    content.write(tmp_path / "root")
    content.write(tmp_path / "root", {"config.json": b"{}"}, HUGE)
    return tmp_path / "root"


@pytest.fixture
def hub(root: Path) -> Iterator[Server]:
    with start(root) as server:
        yield server


def sparse(file: Path, size: int) -> None:
    file.touch()
    os.truncate(file, size)


@pytest.mark.slow
def test_other_repositories_answer_while_one_is_hashed(
    root: Path, hub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More requests than the server has readers ask for what is not ready."""
    monkeypatch.setattr(internlm_zoo.serve.pending, "_SOON", 0.2)
    for number in range(4):
        sparse(root / HUGE / f"part-{number}.bin", ENDLESS)
    listing = f"{hub.url}/api/models/{HUGE}"
    pool = urllib3.PoolManager(maxsize=30, retries=False)
    waiting = [pool.request("GET", listing, preload_content=False, timeout=PATIENCE) for _ in range(12)]
    assert all(answer.status == 200 and answer.read(1) == b" " for answer in waiting)
    assert ask("GET", f"{hub.url}/api/models/{REPO}").json()["id"] == REPO
    assert ask("GET", f"{hub.url}/{REPO}/resolve/main/model.safetensors").data == WEIGHTS
    head = ask("HEAD", f"{hub.url}/{HUGE}/resolve/main/config.json")
    assert (head.status, head.headers["Retry-After"]) == (503, "121")
    assert ask("GET", f"{hub.url}/api/models/acme/nothing").status == 404
    hub.close()
    for answer in waiting:
        answer.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_while_it_hashes(root: Path, number: signal.Signals) -> None:
    sparse(root / HUGE / "weights.bin", ENDLESS)
    with serving(root, "--port", "0", "--json") as process:
        url = first_document(process)["url"]
        answer = urllib3.request("GET", f"{url}/api/models/{HUGE}", preload_content=False, timeout=PATIENCE)
        assert answer.read(1) == b" "
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0 and "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [
        "from huggingface_hub import hf_hub_download as get; print(get({repo!r}, 'config.json'))",
        "from huggingface_hub import snapshot_download as get;"
        "print(get({repo!r}, allow_patterns=['config.json']) + '/config.json')",
        "from huggingface_hub import HfApi, hf_hub_download as get;"
        "list(HfApi().list_repo_tree({repo!r})); print(get({repo!r}, 'config.json'))",
        "from modelscope import snapshot_download as get;"
        "print(get({repo!r}, allow_patterns=['config.json']) + '/config.json')",
        "from modelscope.hub.file_download import model_file_download as get;"
        "print(get({repo!r}, 'config.json'))",
    ],
    ids=["hf file", "hf snapshot", "hf tree", "modelscope snapshot", "modelscope file"],
)
def test_official_clients_get_what_takes_time_to_hash(
    root: Path, hub: Server, run: Run, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(internlm_zoo.serve.pending, "_SOON", 0.2)
    sparse(root / HUGE / "weights.bin", LONG)
    done = run(sys.executable, "-c", program.format(repo=HUGE))
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).read_bytes() == b"{}"


def test_a_listing_that_took_time_is_json_behind_blanks(
    root: Path, hub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every protocol; each file is small enough for a test, and longer than the server waits here."""
    monkeypatch.setattr(internlm_zoo.serve.pending, "_SOON", 0.01)
    listings = (f"/api/models/{HUGE}", f"/api/v1/models/{HUGE}/repo/files", f"/api/v1/file/{HUGE}")
    for number, listing in enumerate(listings):
        sparse(root / HUGE / f"part-{number}.bin", 50 << 20)
        answer = ask("GET", hub.url + listing)
        assert answer.status == 200 and answer.data.startswith(b" ") and answer.json()
    sparse(root / HUGE / "more.bin", 50 << 20)
    assert set(download_urls(hub, HUGE)) == {"config.json", "more.bin", *(f"part-{n}.bin" for n in range(3))}


def index(root: Path, files: dict[str, bytes], **more: object) -> None:
    """As `mirror apply` writes it."""
    listed = [
        {
            "path": path,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "stamp": str((root / REPO / path).stat().st_mtime_ns),
            **more,
        }
        for path, data in files.items()
    ]
    write_index(root, indexed(REPO, listed, "1" * 40))


@pytest.mark.parametrize("times", ["new", "kept"])
def test_a_file_of_a_mirror_that_was_replaced_is_another(root: Path, hub: Server, times: str) -> None:
    """By one of the same size, and in one case with the same time: a resumed download does not mix them."""
    index(root, content.FILES)
    url = f"{hub.url}/{REPO}/resolve/main/model.safetensors"
    before = ask("HEAD", url).headers
    assert before["X-Repo-Commit"] == "1" * 40
    place, other = root / REPO / "model.safetensors", WEIGHTS[::-1]
    stamp = place.stat().st_mtime_ns if times == "kept" else place.stat().st_mtime_ns + 1
    draft = root / "draft"
    draft.write_bytes(other)
    os.utime(draft, ns=(stamp, stamp))
    draft.replace(place)
    after = ask("HEAD", url).headers
    assert after["ETag"] == f'"{hashlib.sha256(other).hexdigest()}"' and after["X-Repo-Commit"] != "1" * 40
    again = ask("GET", url, **{"If-Range": before["ETag"], "Range": "bytes=1000-"})
    assert (again.status, again.data) == (200, other)
    dated = ask("GET", url, **{"If-Range": before["Last-Modified"], "Range": "bytes=1000-"})
    assert (dated.status, dated.data) == (200, other)
    assert ask("GET", url, **{"If-Match": before["ETag"], "Range": "bytes=1000-"}).status == 412


def test_an_index_is_believed_where_it_has_a_stamp_alone(root: Path) -> None:
    """Also of a wrong digest: nothing was hashed, or everything."""
    for stamp, believed in (("", False), ("1", False), (..., True)):
        index(root, content.FILES, sha256="5" * 64, **({} if stamp is ... else {"stamp": stamp}))
        with start(root) as hub:
            head = ask("HEAD", f"{hub.url}/{REPO}/resolve/main/model.safetensors").headers
            assert (head["ETag"] == f'"{"5" * 64}"') is believed, stamp


@pytest.mark.parametrize(
    "more", [{"sha256": "/etc/passwd"}, {"path": "../secret"}, {"path": "nul"}, {"size": -1}], ids=str
)
def test_an_index_that_a_stranger_wrote_is_refused(root: Path, more: dict[str, object]) -> None:
    index(root, content.FILES, **more)
    with pytest.raises(IntegrityError, match=r"mirror\.json"):
        build_app(root)


def test_an_index_that_is_damaged_while_it_is_served_is_a_sentence(root: Path, hub: Server) -> None:
    (root / "mirror.json").write_text("[" * 100_000)
    answer = ask("GET", f"{hub.url}/api/models/{REPO}")
    assert answer.status == 500 and "the index of the mirror" in answer.json()["error"]


def test_names_that_are_files_of_other_names_elsewhere_are_not_served(root: Path, hub: Server) -> None:
    """One of them would have our own client, and Windows, refuse the whole release."""
    names = ("a*b", "a?", 'a"b', "a<b", "a|b", "a:b", "dot.", "blank ", "GIT~1", "CON", "NUL.txt", "COM¹")
    for name in names:
        (root / HUGE / name).write_text("x")
    os.mkfifo(root / HUGE / "pipe")
    listed = ask("GET", f"{hub.url}/api/models/{HUGE}").json()["siblings"]
    assert [file["rfilename"] for file in listed] == ["config.json"]


@pytest.mark.parametrize("host", ["0", "0x0", "0.0", "::0", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0", "", "*"])
def test_all_addresses_are_asked_for_by_their_names_alone(root: Path, host: str) -> None:
    with pytest.raises(UsageError) as caught:
        start(root, host=host)
    assert caught.value.where == "`host`" and "0.0.0.0" in (caught.value.fix or "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_who_asks_for_all_addresses_gets_them(root: Path, host: str) -> None:
    with start(root, host=host) as hub:
        assert ask("GET", f"{hub.url}/api/models/{REPO}").status == 200
