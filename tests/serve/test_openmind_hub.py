"""The unmodified openmind_hub gets exactly what `serve` was given."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hubs import FaultyHub
from tests.hubs.authority import Authority
from tests.openmind import client_python, leading_to, named
from tests.serve import content
from tests.serve.test_official_clients import git_oid

REPO, CROWD = content.REPO, "acme/crowd"
CROWDED = {f"part-{n % 4}/file-{n:04}.txt": b"" for n in range(200)}
TOKENS = {"right": "hub-secret", "wrong": "hub-guess"}
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    content.write(root)
    content.write(root, CROWDED, CROWD)
    return root


@pytest.fixture
def hub(root: Path, authority: Authority) -> Iterator[FaultyHub]:
    with FaultyHub(root, tls=authority.server) as hub:
        yield hub


@pytest.fixture
def environment(hub: FaultyHub, authority: Authority, tmp_path: Path) -> Iterator[dict[str, str]]:
    with leading_to(hub.url, authority, tmp_path) as environment:
        yield environment


@pytest.fixture
def made(
    calls: Callable[..., dict[str, Any]],
    root: Path,
    authority: Authority,
    environment: dict[str, str],
    tmp_path: Path,
) -> dict[str, Any]:
    with FaultyHub(root, tokens={TOKENS["right"]}, tls=authority.server) as guarded:
        asked = {
            "repo": REPO,
            "crowd": CROWD,
            "weights": content.digests()[WEIGHTS],
            "local": str(tmp_path / "local"),
            "guarded": named(guarded.url),
            "guarded_local": str(tmp_path / "guarded"),
            "tokens": TOKENS,
        }
        program = "modelers_calls.py"
        return calls("openmind_hub", program, asked, python=client_python("modelers"), **environment)


def test_openmind_hub(made: dict[str, Any], hub: FaultyHub) -> None:
    commit, tree = made["get_repo_last_commit"], made["list_repo_tree"]
    assert len(commit) == 40
    assert made["model_info"] == [commit, *reversed(REPO.split("/")), False, sorted(content.FILES)]
    for path, data in content.FILES.items():
        sha256 = hashlib.sha256(data).hexdigest() if path.endswith((".safetensors", ".model")) else None
        assert tree[path] == [len(data), sha256 or git_oid(data), sha256], path
    assert set(made["list_repo_tree of a folder"]) == {"notes/读我.md"}
    assert set(made["list_repo_files"]) == set(content.FILES) == set(tree)
    assert set(made["list_repo_files of a crowd"]) == set(CROWDED)
    assert made["get_path_info of a file"] == git_oid(content.FILES["config.json"])
    assert made["get_path_info of a folder"] == commit
    assert made["OmFileSystem"] == content.FILES["config.json"][2:12].decode()
    assert Path(made["snapshot_download"]).name == commit
    for call in ("snapshot_download", "snapshot_download at a revision", "the right token"):
        assert content.digests_below(Path(made[call])) == content.digests(), call
    assert Path(made["om_hub_download"]).read_bytes() == content.FILES["notes/读我.md"]
    assert Path(made["a resumed download"]).read_bytes() == content.FILES[WEIGHTS]
    assert hub.downloads(WEIGHTS)[-1].headers["Range"] == "bytes=1000-"
    for call, error in {
        "a missing repository": "RepositoryNotFoundError",
        "a missing revision": "RevisionNotFoundError",
        "a missing folder": "EntryNotFoundError",
        "a missing file": "EntryNotFoundError",
        "no token": "GatedRepoError",
        "a wrong token": "GatedRepoError",
    }.items():
        assert str(made[call]).startswith(f"{error}: "), call


def test_openmind_hub_follows_to_where_the_hub_keeps_its_files(
    calls: Callable[..., dict[str, Any]], environment: dict[str, str], hub: FaultyHub, tmp_path: Path
) -> None:
    """As from the real hub: a redirect to a host that the client knows as a CDN."""
    hub.fault("redirect", "*", to="same")
    asked = {"repo": REPO, "local": str(tmp_path / "local")}
    python = client_python("modelers")
    calls("openmind_hub", "modelers_redirected.py", asked, python=python, **environment)
    assert content.digests_below(tmp_path / "local") == content.digests()
    assert len(hub.downloads()) == 2 * len(content.FILES)
