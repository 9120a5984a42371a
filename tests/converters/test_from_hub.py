"""`convert --from-hub`: the same bytes as from a copy, for little more traffic than the weights, and nothing
of the source on the disk."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import converters
from internlm_zoo import conversion
from internlm_zoo.errors import (
    IntegrityError,
    NetworkError,
    NotFoundError,
    UnsupportedError,
    UsageError,
    ZooError,
)
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings
from tests.converters.oracle import INTERNLM, INTERNLM2, Variant, make_model, write_hf, write_original
from tests.hubs import FaultyHub

DIMS = replace(INTERNLM2, layers=4, hidden=256, heads=8, kv_heads=4, inter=768, vocab=2048)
OLDER = replace(INTERNLM, layers=3, hidden=256, heads=8, kv_heads=8, inter=768, vocab=2048)
BUDGET = 1.05
TALL = replace(DIMS, layers=1, vocab=8192)
TP1 = "acme/tp1", "model_tp0_pp0.pt"
ENDPOINTS = {
    "huggingface": "HF_ENDPOINT",
    "modelscope": "MODELSCOPE_ENDPOINT",
    "openxlab": "INTERNLM_ZOO_OPENXLAB_ENDPOINT",
}
WAYS = {
    "hf to hf": ("acme/hf", {"to": "hf", "max_shard_size": "3MB"}),
    "original tp 2 to hf": ("acme/tp2", {"to": "hf"}),
    "hf to original tp 4": ("acme/hf", {"to": "original", "tp": 4}),
    "original tp 1 to hf": ("acme/tp1", {"to": "hf"}),
    "original tp 2, pp 2 to llama": ("acme/grid", {"to": "llama"}),
    "older hf to original": ("acme/older-hf", {"to": "original", "tp": 2}),
    "older original tp 2 to hf": ("acme/older", {"to": "hf"}),
    "hf to llama": ("acme/hf", {"to": "llama"}),
    "hf to float32": ("acme/hf", {"to": "hf", "dtype": "float32"}),
    "transposed original to hf": ("acme/transposed", {"to": "hf"}),
}
OVERLAY = """
models:
  tiny:
    display_name: Tiny
    family: internlm2
    size: 1m
    kind: base
    context_length: 4321
    releases:
      - {hub: openxlab, repo: acme/nowhere, format: hf}
      - {hub: modelscope, repo: acme/hf, format: hf}
      - {hub: huggingface, repo: acme/tp2, format: original}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Releases of some MB each."""
    root = tmp_path_factory.mktemp("hub")
    (root / "acme").mkdir()
    model, older = make_model(DIMS), make_model(OLDER)
    write_hf(root / "acme/hf", model, DIMS, files=3)
    write_original(root / "acme/tp1", model, DIMS)
    write_original(root / "acme/transposed", make_model(TALL), TALL, how=Variant(storage="transposed"))
    write_original(root / "acme/tp2", model, DIMS, 2)
    write_original(root / "acme/grid", model, DIMS, 2, (1, 3))
    write_hf(root / "acme/older-hf", older, OLDER, files=2)
    write_original(root / "acme/older", older, OLDER, 2)
    return root


@dataclass
class Place:
    """A user with an empty home, and three hubs that hold the same releases."""

    folder: Path
    root: Path
    hubs: dict[str, FaultyHub]
    environ: dict[str, str]

    @property
    def hub(self) -> FaultyHub:
        return self.hubs["huggingface"]

    @property
    def settings(self) -> Settings:
        return Settings.from_environment(self.environ)

    @property
    def dst(self) -> Path:
        return self.folder / "out" / "dst"

    @property
    def sent(self) -> int:
        return sum(hub.sent for hub in self.hubs.values())

    def convert(self, name: str, **options):
        return conversion.convert(name, self.dst, settings=self.settings, from_hub=True, **options)

    def record(self) -> dict:
        return json.loads((self.dst / "conversion.json").read_text())

    def inputs(self) -> list[dict]:
        return self.record()["source"]["files"]

    def weights(self, repo: str) -> int:
        return sum(path.stat().st_size for path in weights_of(self.root / repo))

    def assert_nothing_stored(self) -> None:
        """The result is all there is: no store, no temporary file, no staging."""
        assert not (self.folder / "home").exists()
        assert {path.name for path in self.folder.iterdir()} <= {"overlay.yaml", "out", "tmp"}
        assert not list((self.folder / "tmp").iterdir())


def weights_of(folder: Path) -> list[Path]:
    names = ("*.safetensors", "*.bin", "model_tp*.pt")
    return [path for pattern in names for path in folder.glob(pattern)]


def content(folder: Path) -> dict[str, bytes]:
    """All files of a result but its record."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "conversion.json"}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def place(tmp_path, root, monkeypatch) -> Iterator[Place]:
    (tmp_path / "overlay.yaml").write_text(OVERLAY)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with ExitStack() as stack:
        hubs = {name: stack.enter_context(FaultyHub(root)) for name in ENDPOINTS}
        environ = {
            "HOME": str(tmp_path),
            "INTERNLM_ZOO_HOME": str(tmp_path / "home"),
            "INTERNLM_ZOO_REGISTRY": str(tmp_path / "overlay.yaml"),
            "INTERNLM_ZOO_TIMEOUT": "2",
            "INTERNLM_ZOO_TRIES": "3",
            **{variable: hubs[name].url for name, variable in ENDPOINTS.items()},
        }
        yield Place(tmp_path, root, hubs, environ)


@pytest.fixture
def local(tmp_path_factory, root):
    """The result of converting the local copy."""

    def convert(repo: str, options: dict) -> Path:
        dst = tmp_path_factory.mktemp("local") / "dst"
        converters.convert(root / repo, dst, known={}, **options)
        return dst

    return convert


@pytest.mark.parametrize("way", WAYS)
def test_the_result_is_that_of_a_local_copy_for_5_percent_more_traffic(place, local, way):
    repo, options = WAYS[way]
    report = place.convert(f"huggingface:{repo}", **options)
    assert content(place.dst) == content(local(repo, options))
    assert place.sent <= BUDGET * place.weights(repo)
    assert report.fingerprints == converters.fingerprint(place.dst)
    place.assert_nothing_stored()


@pytest.mark.parametrize("way", WAYS)
def test_every_input_passes_in_order_and_is_held_against_its_sha256(place, way):
    repo, options = WAYS[way]
    place.convert(f"huggingface:{repo}", **options)
    files = place.inputs()
    assert {file["name"] for file in files} == {path.name for path in weights_of(place.root / repo)}
    for file in files:
        assert file["verified"] == "sha256"
        assert file["sha256"] == sha256(place.root / repo / file["name"])
        assert file["from"].startswith(f"huggingface:{repo}@")


@pytest.mark.parametrize("hub", ENDPOINTS)
def test_every_protocol_gives_the_same(place, local, hub):
    repo, options = WAYS["original tp 2 to hf"]
    place.convert(f"{hub}:{repo}", **options)
    assert content(place.dst) == content(local(repo, options))
    assert place.sent <= BUDGET * place.weights(repo)
    for file in place.inputs():  # OpenXLab publishes no digests: what came is recorded, held against nothing
        assert file["verified"] == ("per tensor" if hub == "openxlab" else "sha256")
        assert file["sha256"] == sha256(place.root / repo / file["name"])


def test_a_model_is_read_at_the_first_hub_that_has_it_with_the_registrys_facts(place):
    place.convert("tiny", to="original")
    assert place.inputs()[0]["from"].startswith("modelscope:acme/hf@")
    report = conversion.plan("tiny", settings=place.settings, to="hf", from_hub=True)
    assert report.source.folder.name == "huggingface:acme/tp2"
    assert place.hubs["openxlab"].sent == 0
    place.assert_nothing_stored()


@pytest.mark.parametrize("name", ["demo-internlm2-chat", "bundled:demo-internlm-base"])
def test_tokenizer_and_facts_are_those_of_a_downloaded_release(place, tmp_path, name):
    place.convert(name, to="hf")
    model = name.rpartition(":")[2]
    conversion.convert(model, tmp_path / "out" / "two", settings=place.settings, to="hf")
    assert "tokenizer.json" in content(place.dst)
    assert content(place.dst) == content(tmp_path / "out" / "two")


def test_a_plan_is_made_of_headers_alone(place, local):
    repo, options = WAYS["original tp 2 to hf"]
    plan = conversion.plan(f"huggingface:{repo}", settings=place.settings, from_hub=True, **options)
    assert (
        plan.files
        == converters.plan_conversion(converters.open_checkpoint(place.root / repo), **options).files
    )
    assert place.sent < 0.03 * place.weights(repo)
    requests = len(place.hub.requests)
    assert requests < 60  # some tens of tensors in two files
    place.assert_nothing_stored()


def test_the_command_line_has_it(place, zoo, monkeypatch):
    for name, value in place.environ.items():
        monkeypatch.setenv(name, value)
    code, out, _ = zoo("convert", "huggingface:acme/tp2", place.dst, "--to", "hf", "--from-hub", "--dry-run")
    assert code == 0 and "nothing was written" in out and not place.dst.exists()
    code, out, _ = zoo("convert", "huggingface:acme/tp2", place.dst, "--to", "hf", "--from-hub")
    assert (code, out) == (0, f"{place.dst}\n")
    code, out, _ = zoo("verify", place.dst, "--json")
    assert code == 0
    code, _, err = zoo("convert", "huggingface:acme/tp2", place.folder / "two", "--to", "hf")
    assert code == 4 and "--from-hub" in err


# --- hubs that misbehave ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["reset", "truncate", 503, "stall"])
def test_a_connection_that_dies_is_resumed_at_the_byte(place, local, kind):
    repo, options = WAYS["hf to hf"]
    how = {} if kind == 503 else {"after": 100_000}
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
    with FaultyHub(root, url_seconds=0.3) as hub:
        place.environ["INTERNLM_ZOO_OPENXLAB_ENDPOINT"] = hub.url
        hub.fault("delay", "*.pt", seconds=0.05)
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
from internlm_zoo import conversion
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

class Dies(Progress):
    left = int(sys.argv[3])
    def advance(self, task, amount):
        self.left -= amount
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

name, dst = sys.argv[1:3]
conversion.convert(name, dst, settings=Settings.from_environment(), to="hf", from_hub=True, progress=Dies())
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
