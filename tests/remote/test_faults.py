"""`convert --from-hub` from hubs that misbehave, of what is not there, and after a kill."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

import converters
from internlm_zoo.errors import (
    IntegrityError,
    NetworkError,
    NotFoundError,
    UnsupportedError,
    UsageError,
    ZooError,
)
from internlm_zoo.progress import Progress
from tests.converters.oracle import make_model, write_original
from tests.hubs import FaultyHub
from tests.remote.hub import (
    BUDGET,
    DIMS,
    TP1,
    WAYS,
    content,
)
from tests.timing import short_silence


@pytest.mark.parametrize("kind", ["reset", "truncate", 503, "stall"])
def test_a_connection_that_dies_is_resumed_at_the_byte(place, local, kind):
    repo, options = WAYS["hf to hf"]
    how = {} if kind == 503 else {"after": 100_000}
    if kind == "stall":
        place.environ["INTERNLM_ZOO_TIMEOUT"] = str(short_silence())
    place.hub.fault(kind, "*.safetensors", times=2, **how)
    place.convert(f"huggingface:{repo}", **options)
    assert content(place.dst) == content(local(repo, options))
    assert {file["verified"] for file in place.inputs()} == {"sha256"}
    assert place.sent <= BUDGET * place.weights(repo) + 2 * (256 << 10)  # what was on its way when it died


def test_one_wrong_byte_is_exit_6_and_nothing_appears(place, zoo, monkeypatch):
    for name, value in place.environ.items():
        monkeypatch.setenv(name, value)
    place.hub.fault("flip", "model_tp1*.pt", after=2_000_000)
    args = ("convert", "huggingface:acme/tp2", place.dst, "--to", "hf", "--from-hub")
    code, _, err = zoo(*args)
    assert code == 6
    assert "model_tp1_pp0.pt" in err and "sha256" in err
    assert not list(place.dst.parent.iterdir())
    place.hub.clear()
    assert zoo(*args)[0] == 0  # and nothing of the wrong bytes is gone on with
    assert {file["verified"] for file in place.inputs()} == {"sha256"}


@pytest.mark.parametrize(("repo", "name"), [("acme/hf", "model-00001-of-00003.safetensors"), TP1])
def test_a_byte_that_is_right_with_the_headers_and_wrong_with_its_tensor_is_found(place, repo, name):
    """It comes twice: within what is read around the headers, and with the tensor that begins there."""

    class Spoil(Progress):
        def note(self, text):  # that there is room: between headers and tensors
            place.hub.fault("flip", name, after=16_000)

    with pytest.raises(IntegrityError):
        place.convert(f"huggingface:{repo}", to="llama", progress=Spoil())
    assert not list(place.dst.parent.iterdir())


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_a_wrong_small_file_is_refused_before_anything_is_written(place, name):
    place.hub.fault("flip", name, after=5)
    with pytest.raises(IntegrityError, match=r"expected (git sha1|sha256)"):
        place.convert("huggingface:acme/hf", to="hf")
    assert not list(place.dst.parent.iterdir())


def test_a_file_that_changes_under_way_is_refused(place):
    place.hub.fault("etag-changes", "*.safetensors")
    with pytest.raises(IntegrityError, match="ETag changed"):
        place.convert("huggingface:acme/hf", to="hf")
    assert not list(place.dst.parent.iterdir())


def test_so_is_one_of_another_length(place):
    place.hub.fault("wrong-size")
    with pytest.raises(IntegrityError):
        place.convert("huggingface:acme/hf", to="hf")
    assert not list(place.dst.parent.iterdir())


def test_a_hub_that_serves_no_parts_is_left_alone(place):
    place.hub.fault("ignore-range", "*.safetensors")
    with pytest.raises(ZooError, match="parts"):
        place.convert("huggingface:acme/hf", to="hf")


def test_signed_urls_that_run_out_are_asked_for_again(place, local, root):
    repo, options = WAYS["original tp 2 to hf"]
    with FaultyHub(root, url_seconds=3600, clock=lambda: time.time() - 3600) as hub:
        place.environ["INTERNLM_ZOO_OPENXLAB_ENDPOINT"] = hub.url  # its URLs are over when they arrive
        place.convert(f"openxlab:{repo}", **options)
        assert sum(seen.path.endswith("getFileDownloadUrl") for seen in hub.requests) > 3
    assert content(place.dst) == content(local(repo, options))


def test_so_are_those_that_are_refused_before_their_time(place, local):
    repo, options = WAYS["original tp 2 to hf"]
    hub = place.hubs["openxlab"]

    class Expire(Progress):
        def start(self, task, total, done=0):
            hub.fault("expired", "*.pt", times=1)

    place.convert(f"openxlab:{repo}", progress=Expire(), **options)
    assert "expired" in {seen.fault for seen in hub.requests}
    assert content(place.dst) == content(local(repo, options))


def test_credentials_go_to_their_own_host_alone(place, root):
    with FaultyHub(root, tokens={"secret"}) as hub:
        hub.fault("redirect", "*.safetensors", to="other-host")
        place.environ |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": "secret"}
        place.convert("huggingface:acme/hf", to="hf")
        door = hub.url.removeprefix("http://")
        told = {
            seen.host == door for seen in hub.requests if "secret" in seen.headers.get("Authorization", "")
        }
        assert told == {True}
        assert any(seen.host != door for seen in hub.requests)


def test_offline_mode_is_a_refusal(place):
    place.environ["INTERNLM_ZOO_OFFLINE"] = "1"
    with pytest.raises(NetworkError, match="offline"):
        place.convert("huggingface:acme/hf", to="hf")
    assert place.sent == 0


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("huggingface:acme/absent", NotFoundError),
        ("nohub:acme/hf", NotFoundError),
        ("huggingface:", UsageError),
        ("absent-model", NotFoundError),
    ],
)
def test_names_that_mean_nothing_are_refused(place, name, error):
    with pytest.raises(error):
        place.convert(name, to="hf")


def test_the_nodes_of_a_cluster_do_not_read_it_from_there(place):
    pytest.importorskip("ray", reason="the [ray] extra has no wheel for this Python or system")
    with pytest.raises(UnsupportedError, match="file system they share"):
        place.convert("huggingface:acme/hf", to="hf", engine="ray")
    assert place.sent < place.weights("acme/hf") / 10
    place.assert_nothing_stored()
    assert not any(place.dst.parent.iterdir())


def test_a_directory_is_no_hub(place, root):
    with pytest.raises(UsageError, match="directory"):
        place.convert(str(root / "acme/hf"), to="hf")


def test_md5_side_cars_are_checked_as_the_bytes_pass(place, tmp_path):
    other = tmp_path / "out" / "hub"
    folder = other / "acme" / "tp1"
    write_original(folder, make_model(DIMS), DIMS)
    weights = folder / "model_tp0_pp0.pt"
    right = hashlib.md5(weights.read_bytes()).hexdigest()
    with FaultyHub(other) as hub:
        place.environ["INTERNLM_ZOO_OPENXLAB_ENDPOINT"] = hub.url
        (folder / f"{weights.name}.md5").write_text(f"{right}  {weights.name}\n")
        place.convert("openxlab:acme/tp1", to="hf")
        assert place.inputs()[0]["verified"] == "md5"
        assert hub.sent <= BUDGET * weights.stat().st_size
        (folder / f"{weights.name}.md5").write_text("0" * 32)
        with pytest.raises(IntegrityError, match="md5"):
            place.convert("openxlab:acme/tp1", to="llama", force=True)


CHILD = """
import os, signal, sys
from converters import ConversionOptions, Execution
from internlm_zoo.checkpoints import conversion
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

class Dies(Progress):
    left = int(sys.argv[3])
    def advance(self, task, amount):
        self.left -= amount
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

name, dst = sys.argv[1:3]
settings = Settings.from_environment()
source = conversion.ConversionSource(name, from_hub=True)
conversion.convert(source, dst, ConversionOptions("hf"), Execution(), settings=settings, progress=Dies())
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_run_goes_on_and_says_that_it_saw_tensors_alone(place, local):
    repo, options = WAYS["hf to hf"][0], {"to": "hf"}
    command = [
        sys.executable,
        "-c",
        CHILD,
        f"huggingface:{repo}",
        str(place.dst),
        str(place.weights(repo) // 2),
    ]
    assert subprocess.run(command, env={**os.environ, **place.environ}).returncode == -signal.SIGKILL
    before = place.sent
    report = place.convert(f"huggingface:{repo}", **options)
    assert content(place.dst) == content(local(repo, options))
    assert place.sent - before < 0.7 * place.weights(repo)
    assert "per tensor" in {file["verified"] for file in place.inputs()}
    assert report.fingerprints == converters.fingerprint(place.root / repo)
    place.assert_nothing_stored()


def test_every_request_for_weights_names_its_last_byte(place):
    place.convert("huggingface:acme/tp1", to="hf")
    ranges = [seen.headers["Range"] for seen in place.hub.downloads("*.pt")]
    assert all(wanted.startswith("bytes=") and not wanted.endswith("-") for wanted in ranges)
