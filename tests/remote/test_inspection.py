"""`inspect` of what is not here: models of the registry, hub:repo, a hub's page, a web directory."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from internlm_zoo import download, inspect
from internlm_zoo.errors import NetworkError, NotFoundError, UsageError
from internlm_zoo.settings import Settings
from tests.converters.inspection.looking import look, with_tokenizer
from tests.converters.oracle import INTERNLM2, make_model, write_hf, write_original
from tests.hubs import FaultyHub
from tests.sources.web_server import serve_directory

# Some MB, so that what is read can be told from what there is.
DIMS = replace(INTERNLM2, layers=4, hidden=256, heads=8, kv_heads=4, inter=768, vocab=2048)
OVERLAY = """
models:
  tiny:
    display_name: Tiny
    family: internlm2
    size: 1m
    kind: base
    released_config: {max_position_embeddings: 4321}
    releases:
      - {hub: huggingface, repo: acme/hf, format: hf}
"""


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "hub"
    (root / "acme").mkdir(parents=True)
    with_tokenizer(write_hf(root / "acme/hf", make_model(DIMS), DIMS, files=3, max_position_embeddings=...))
    with_tokenizer(write_original(root / "acme/grid", make_model(DIMS), DIMS, 2, (2, 2)))
    return root


@dataclass
class Place:
    """A user with an empty home, and a hub."""

    folder: Path
    hub: FaultyHub

    @property
    def environ(self):
        return {
            "HOME": str(self.folder),
            "INTERNLM_ZOO_HOME": str(self.folder / "home"),
            "INTERNLM_ZOO_REGISTRY": str(self.folder / "overlay.yaml"),
            "INTERNLM_ZOO_TRIES": "2",
            "HF_ENDPOINT": self.hub.url,
        }

    @property
    def settings(self):
        return Settings.from_environment(self.environ)

    def inspect(self, target, **options):
        return inspect(target, settings=self.settings, **options)


@pytest.fixture
def place(tmp_path, root):
    (tmp_path / "overlay.yaml").write_text(OVERLAY)
    with FaultyHub(root) as hub:
        yield Place(tmp_path, hub)


def as_here(found, folder):
    """The same facts and findings as of the directory itself."""
    local = look(folder)[0]
    known = {name: fact.value for name, fact in found.known.items() if fact.origin != "registry"}
    assert known == {name: fact.value for name, fact in local.known.items()}
    assert [one.what for one in found.findings] == [one.what for one in local.findings]
    assert (found.files, found.nbytes, found.tokenizer) == (local.files, local.nbytes, local.tokenizer)
    return True


@pytest.mark.parametrize("repo", ["acme/hf", "acme/grid"])
def test_a_release_of_a_hub_is_looked_at_by_its_headers(place, root, repo):
    found = place.inspect(f"huggingface:{repo}")
    assert found.sound
    assert found.name == f"huggingface:{repo}"
    assert as_here(found, root / repo)
    weights = sum(path.stat().st_size for path in (root / repo).glob("model*[st]"))
    assert sum(seen.sent for seen in place.hub.downloads("model*")) < weights / 4
    assert not (place.folder / "home").exists()


def test_what_is_wrong_with_a_release_is_said(place, root):
    (root / "acme/grid/model_tp0_pp1.pt").write_text("version https://git-lfs.github.com/spec/v1\noid x\n")
    shutil.copy(root / "acme/grid/model_tp0_pp0.pt", root / "acme/grid/model_tp1_pp0.pt")
    found = place.inspect("huggingface:acme/grid")
    assert as_here(found, root / "acme/grid")
    assert {Path(one.where).name for one in found.findings} == {"model_tp0_pp1.pt", "model_tp1_pp0.pt"}


def test_a_model_is_looked_at_where_it_is_with_the_registrys_facts(place):
    found = place.inspect("tiny")
    assert found.name == "huggingface:acme/hf"
    fact = found.known["max_position_embeddings"]
    assert (fact.value, fact.origin) == (4321, "registry")


def test_a_model_in_the_store_is_looked_at_there(place):
    done = download("tiny", settings=place.settings)
    before = len(place.hub.requests)
    found = place.inspect("tiny")
    assert (found.sound, Path(found.name)) == (True, done.path)
    assert found.known["max_position_embeddings"].value == 4321
    assert len(place.hub.requests) == before


@pytest.mark.parametrize("page", ["{url}/acme/hf", "{url}/acme/hf/tree/main/"])
def test_the_page_of_a_release_stands_for_it(place, page):
    assert place.inspect(page.format(url=place.hub.url)).name == "huggingface:acme/hf"


@pytest.mark.parametrize("repo", ["acme/hf", "acme/grid"])
def test_a_directory_of_a_web_server(place, root, repo):
    seen: list[str] = []
    with serve_directory(root, seen) as url:
        found = place.inspect(f"{url}/{repo}/")
    assert as_here(found, root / repo)
    assert found.sound
    assert found.name == f"{url.partition('://')[2]}:{repo}"


def test_a_web_server_can_be_a_hub_of_the_registry(place, root):
    with serve_directory(root) as url:
        hub = f'hubs:\n  ours: {{title: Ours, protocol: web, endpoint: "{url}"}}\n'
        (place.folder / "overlay.yaml").write_text(hub + OVERLAY.replace("hub: huggingface", "hub: ours"))
        assert as_here(place.inspect("tiny"), root / "acme/hf")
        assert look(download("tiny", settings=place.settings).path)[1] == []


def test_deep_reads_all_of_it_and_holds_it_against_the_published_digests(place, root):
    found = place.inspect("huggingface:acme/hf", deep=True)
    assert found.statistics == look(root / "acme/hf", deep=True)[0].statistics
    weights = sum(path.stat().st_size for path in (root / "acme/hf").glob("*.safetensors"))
    assert weights <= place.hub.sent <= 1.2 * weights
    path = root / "acme/hf/model-00002-of-00003.safetensors"
    place.hub.fault("flip", path.name, after=path.stat().st_size - 100)
    found = place.inspect("huggingface:acme/hf", deep=True)
    assert any("sha256" in one.what and one.where.endswith(path.name) for one in found.findings)


def test_a_network_that_fails_is_no_fault_of_the_checkpoint(place):
    place.hub.fault(503, "model-00002*")
    with pytest.raises(NetworkError):
        place.inspect("huggingface:acme/hf")
    with pytest.raises(NetworkError, match="offline"):
        inspect("tiny", settings=place.settings.with_options(offline=True))


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("huggingface:acme/absent", NotFoundError),
        ("absent/folder", NotFoundError),
        ("no-such-model", NotFoundError),
        ("nowhere:acme/hf", NotFoundError),
        ("huggingface:", UsageError),
        ("ftp://host/folder", UsageError),
        ("http://host", UsageError),
        ("https://user:secret@host/folder", UsageError),
    ],
)
def test_what_cannot_be_found_is_refused(place, target, error):
    with pytest.raises(error) as caught:
        place.inspect(target)
    assert "secret" not in f"{caught.value} {caught.value.fix}"


def test_the_command_takes_names_and_urls(zoo, place, monkeypatch):
    for name, value in place.environ.items():
        if name != "HOME":
            monkeypatch.setenv(name, value)
    code, out, _ = zoo("inspect", "huggingface:acme/grid", "--json")
    assert (code, json.loads(out)["known"]["pp"]["value"]) == (0, 2)
    os.truncate(place.folder / "hub/acme/hf/model-00001-of-00003.safetensors", 500)
    code, out, _ = zoo("inspect", f"{place.hub.url}/acme/hf")
    assert (code, "model-00001" in out) == (1, True)
