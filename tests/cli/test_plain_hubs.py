"""What hubs and checkpoints say is shown, and obeyed by nothing: every field of every listing, every header,
the message of an error, names of files, tensors and pickles, values of configs."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import socketserver
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import internlm_zoo.cli as cli
from tests.cli.hostile import HOSTILE, shown
from tests.sources.hostile import COMMIT, LISTINGS
from tests.timing import PATIENCE
from tests.world import ENDPOINTS, OVERLAY

for _module in cli._MODULES:
    __import__(f"internlm_zoo.cli.{_module}")

NAME = HOSTILE.replace("/", "|")
HEADER = HOSTILE.replace("\r", "").replace("\n", "").encode()
TERMINALS = pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "overlay.yaml").write_text(OVERLAY)
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "HOME": str(tmp_path),
        "INTERNLM_ZOO_HOME": str(tmp_path / "store"),
        "INTERNLM_ZOO_REGISTRY": str(tmp_path / "overlay.yaml"),
        "INTERNLM_ZOO_TIMEOUT": str(PATIENCE),
        "INTERNLM_ZOO_TRIES": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def poisoned(document: Any) -> Iterator[Any]:
    """The document with each of its keys and values in turn replaced by hostile text."""
    for path in _places(document):
        twin = copy.deepcopy(document)
        parent = twin
        for step in path[:-1]:
            parent = parent[step]
        parent[path[-1]] = HOSTILE
        yield twin
        if isinstance(parent, dict):
            twin = copy.deepcopy(document)
            parent = twin
            for step in path[:-1]:
                parent = parent[step]
            parent[HOSTILE] = parent.pop(path[-1])
            yield twin


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield (*path, step)
        yield from _places(inner, (*path, step))


@contextmanager
def raw_hub(answer: Callable[[], bytes]) -> Iterator[str]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(answer())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", LISTINGS)
def test_no_field_of_a_listing_reaches_a_terminal_as_more_than_text(place, monkeypatch, protocol):
    listing = LISTINGS[protocol]({"config.json": {"size": 2}}, COMMIT)
    answers = [*poisoned(listing), HOSTILE, {HOSTILE: HOSTILE}]
    at = [0]

    def answer() -> bytes:
        """Every header is hostile, and no library between that would refuse to send it."""
        body = json.dumps(answers[at[0]]).encode()
        status = b"500 " if at[0] % 4 == 3 else b"200 "
        names = (b"X-Error-Message", b"X-Error-Code", b"X-Repo-Commit", b"ETag", b"Server", HEADER[:20])
        headers = b"".join(b"%s: %s\r\n" % (name, HEADER) for name in names)
        length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        return b"HTTP/1.1 " + status + HEADER + b"\r\n" + headers + length + body

    with raw_hub(answer) as url:
        monkeypatch.setenv(ENDPOINTS[protocol], url)
        for at[0] in range(len(answers)):
            for args in (
                ["download", "tiny", "--source", protocol, "--debug"],
                ["inspect", f"{protocol}:acme/tiny"],
            ):
                code, _, _ = shown(monkeypatch, *args, terminal=at[0] % 2 == 0)
                assert code != 70


@TERMINALS
def test_no_word_of_a_checkpoint_reaches_a_terminal_as_more_than_text(place, monkeypatch, terminal):
    model = Path(cli.__file__).parents[1] / "demo" / "models" / "demo-internlm2-chat"
    for number, spoil in enumerate((_names, _pickle, _config, _tensors)):
        folder = place / f"ckpt{number}"
        shutil.copytree(model, folder)
        spoil(folder)
        for args in (
            ["inspect", str(folder)],
            ["fingerprint", str(folder)],
            ["convert", str(folder), str(place / "out"), "--to", "hf", "--dry-run"],
            ["verify", str(folder), "--debug"],
            ["cache", "adopt", str(folder)],
        ):
            code, _, _ = shown(monkeypatch, *args, terminal=terminal)
            assert code != 70


def _names(folder: Path) -> None:
    for name in (NAME, os.fsdecode(b"\xff\x9b"), NAME[:200] + ".safetensors"):
        (folder / os.fsdecode(os.fsencode(name)[:240])).write_bytes(b"{}")


def _pickle(folder: Path) -> None:
    """A global of a hostile name."""
    data = b"c" + HOSTILE.replace("\n", "").encode() + b"\n" + HOSTILE.replace("\n", "").encode() + b"\n)R."
    with zipfile.ZipFile(folder / "model_config.pt", "w") as archive:
        archive.writestr("model_config/data.pkl", data)
        archive.writestr("model_config/version", "3\n")


def _config(folder: Path) -> None:
    with zipfile.ZipFile(folder / "model_config.pt", "w") as archive:
        archive.writestr("model_config/data.pkl", pickle.dumps({HOSTILE: HOSTILE, "dtype": HOSTILE}, 2))
        archive.writestr("model_config/version", "3\n")


def _tensors(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    header = {
        HOSTILE: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "model.layers.0.x": {"dtype": HOSTILE, "shape": [1], "data_offsets": [0, 4]},
        "__metadata__": {HOSTILE: HOSTILE, "format": HOSTILE},
    }
    for number, names in enumerate(({HOSTILE, "__metadata__"}, set(header))):
        text = json.dumps({name: header[name] for name in names}).encode()
        place = folder if number else folder / "other"
        place.mkdir(exist_ok=True)
        (place / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    config = {"model_type": HOSTILE, "architectures": [HOSTILE], "torch_dtype": HOSTILE, HOSTILE: HOSTILE}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text(f"---\nlicense: {json.dumps(HOSTILE)}\n---\n{HOSTILE}")
