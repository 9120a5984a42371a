"""The unmodified official packages, each in a process of its own, get exactly what `serve` was given."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from internlm_zoo.serve.app import build_app
from internlm_zoo.serve.background import Server, start
from tests.conftest import OFFICIAL_CALL
from tests.hubs import FaultyHub
from tests.openmind import client_python
from tests.serve import content
from tests.serve.conftest import Run

REPO = content.REPO
TOKENS = {"right": "hub-secret", "wrong": "hub-guess"}
CROWD = "acme/crowd"
CROWDED = {f"part-{n % 4}/file-{n:04}.txt": b"" for n in range(3100)}
FLAT = {path: data for path, data in content.FILES.items() if "/" not in path}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    content.write(root)
    content.write(root, CROWDED, CROWD)
    content.write(root, FLAT, "acme/flat")
    return root


@pytest.fixture(scope="module")
def hub(root: Path) -> Iterator[Server]:
    with start(root) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(root: Path) -> Iterator[Server]:
    with start(build_app(root, tokens={TOKENS["right"]})) as server:
        yield server


def script(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is not installed beside Python"
    return found


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def test_hf_download_command(
    run: Run, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    done = run(script("hf"), "download", REPO, "--local-dir", tmp_path / "out")
    record_property(OFFICIAL_CALL, "huggingface_hub")
    assert done.returncode == 0, done.stderr
    assert content.digests_below(tmp_path / "out") == content.digests()


def test_huggingface_hub(calls: Callable[..., dict[str, Any]], guarded: Server, tmp_path: Path) -> None:
    asked = {
        "repo": REPO,
        "crowd": CROWD,
        "local": str(tmp_path / "local"),
        "guarded": guarded.url,
        "guarded_local": str(tmp_path / "guarded"),
        "tokens": TOKENS,
    }
    made = calls("huggingface_hub", "huggingface_calls.py", asked)
    sizes = {path: len(data) for path, data in content.FILES.items()}
    sha = made["model_info"]["sha"]
    assert len(sha) == 40
    assert made["model_info with files"] == {"sha": sha, "files": sizes}
    assert made["list_repo_refs"] == sha
    tree = made["list_repo_tree"]
    assert {path: size for path, (size, _, _) in tree.items()} == sizes
    for path, data in content.FILES.items():
        _, oid, lfs = tree[path]
        large = path.endswith((".safetensors", ".model"))
        assert lfs == (hashlib.sha256(data).hexdigest() if large else None), path
        assert large or oid == git_oid(data), path
    assert set(made["list_repo_tree of a folder"]) == {"notes/读我.md"}
    assert set(made["list_repo_files"]) == set(content.FILES)
    assert set(made["list_repo_files, paged"]) == set(CROWDED)
    assert made["get_paths_info"] == ["config.json", "notes"]
    assert made["file_exists"] is True
    assert Path(made["snapshot_download"]).name == sha
    for call in ("snapshot_download", "snapshot_download at a revision", "the right token"):
        assert content.digests_below(Path(made[call])) == content.digests(), call
    assert Path(made["hf_hub_download"]).read_bytes() == content.FILES["notes/读我.md"]
    assert made["a missing repository"] == "RepositoryNotFoundError"
    assert made["a missing revision"] == "RevisionNotFoundError"
    assert made["a missing file"] == "RemoteEntryNotFoundError"
    assert made["no token"] == made["a wrong token"] == "GatedRepoError"


def test_modelscope_download_command(
    run: Run, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    done = run(script("modelscope"), "download", REPO, "--local_dir", tmp_path / "out")
    record_property(OFFICIAL_CALL, "modelscope")
    assert done.returncode == 0, done.stderr
    assert content.digests_below(tmp_path / "out") == content.digests()


def test_modelscope(calls: Callable[..., dict[str, Any]], guarded: Server, tmp_path: Path) -> None:
    asked = {
        "repo": REPO,
        "crowd": CROWD,
        "local": str(tmp_path / "local"),
        "cache": str(tmp_path / "cache"),
        "guarded": guarded.url,
        "guarded_local": str(tmp_path / "guarded"),
        "tokens": TOKENS,
    }
    made = calls("modelscope", "modelscope_calls.py", asked)
    digests = content.digests()
    listed = {path: [len(data), digests[path]] for path, data in content.FILES.items()}
    assert made["list_repo_files"] == listed
    assert set(made["list_repo_files of one level"]) == {path for path in listed if "/" not in path}
    assert made["list_repo_files past the cut"] == len(CROWDED) + 4
    assert made["list_repo_revisions"] == ["master"]
    assert made["repo_exists"] is True
    for call in ("snapshot_download", "snapshot_download at a revision", "the right token"):
        assert content.digests_below(Path(made[call])) == digests, call
    assert Path(made["model_file_download"]).read_bytes() == content.FILES["notes/读我.md"]
    for call in ("a missing repository", "a missing revision", "no token", "a wrong token"):
        assert made[call].startswith("refused"), call


@pytest.mark.slow
def test_transformers_by_name_alone(calls: Callable[..., dict[str, Any]], root: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    text = "a journey of a thousand miles"
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(special_tokens=["<unk>"], show_progress=False))
    config = {"model_type": "llama", "hidden_size": 48, "num_attention_heads": 4, "vocab_size": 64}
    tokenizer_config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}
    files = {
        "config.json": json.dumps(config).encode(),
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": json.dumps(tokenizer_config).encode(),
    }
    content.write(root, files, "acme/lm")
    made = calls("transformers", "transformers_calls.py", {"repo": "acme/lm", "text": text})
    assert made["AutoConfig.from_pretrained"] == ["LlamaConfig", 48]
    assert made["AutoTokenizer.from_pretrained"] == [tokenizer.encode(text).ids, text]


@pytest.fixture(scope="session")
def openxlab_python() -> str:
    return client_python("openxlab")


def _openxlab_calls(
    calls: Callable[..., dict[str, Any]], python: str, hub: Server, guarded: FaultyHub, tmp_path: Path
) -> dict[str, Any]:
    asked = {
        "flat": "acme/flat",
        "repo": REPO,
        "open": hub.url,
        "guarded": guarded.url,
        "tokens": TOKENS,
        **{name: str(tmp_path / name) for name in ("local", "one", "nested", "guarded_local")},
    }
    return calls("openxlab", "openxlab_calls.py", asked, python=python)


def test_openxlab(
    calls: Callable[..., dict[str, Any]], openxlab_python: str, hub: Server, root: Path, tmp_path: Path
) -> None:
    with FaultyHub(root, tokens={TOKENS["right"]}) as guarded:
        made = _openxlab_calls(calls, openxlab_python, hub, guarded, tmp_path)
        ways_in = {seen.path.rpartition("/")[2] for seen in guarded.requests if "sso-be" in seen.path}
        assert ways_in == {"auth", "getJwt", "refreshJwt"}
    assert len(made["download"]) == len(FLAT)
    assert content.digests_below(tmp_path / "local") == content.digests(FLAT)
    assert [Path(path).name for path in made["download of one model"]] == ["model.safetensors"]
    assert content.digests_below(tmp_path / "nested") == content.digests()
    for call in ("a missing repository", "no keys", "wrong keys"):
        assert str(made[call]).startswith("refused"), call
    for call in ("the right keys", "an expired token"):
        assert len(made[call]) == len(FLAT), call
    assert content.digests_below(tmp_path / "guarded_local") == content.digests(FLAT)
