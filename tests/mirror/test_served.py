"""A mirror behind `serve`: the official clients get what the hubs held, under every hub's names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from internlm_zoo.mirror import apply
from internlm_zoo.serve.app import build_app, environment
from internlm_zoo.serve.background import start
from tests.conftest import OFFICIAL_CALL
from tests.hubs.authority import Authority
from tests.mirror.world import CHAT, World, open_world
from tests.openmind import client_python, leading_to
from tests.timing import PATIENCE

NAMES = {
    "huggingface": ["acme/tiny-chat", "acme/chat-tiny"],
    "modelscope": ["Acme_Lab/tiny-chat"],
}
CLIENTS = {
    "huggingface": """
import json, sys
from huggingface_hub import HfApi, snapshot_download
print(json.dumps([[snapshot_download(name), HfApi().model_info(name).sha] for name in sys.argv[1:]]))
""",
    "modelscope": """
import json, sys
from modelscope import snapshot_download
print(json.dumps([[snapshot_download(name), None] for name in sys.argv[1:]]))
""",
}


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("world")) as world:
        assert apply(world.file, settings=world.settings).result == "changed"
        yield world


@pytest.mark.parametrize("hub", NAMES)
def test_official_client(
    mirrored: World, hub: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with start(mirrored.mirror) as server:
        env = {
            **os.environ,
            **environment(server.url),
            "HOME": str(tmp_path),
            "HF_HOME": str(tmp_path / "hf"),
            "MODELSCOPE_CACHE": str(tmp_path / "ms"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        command = [sys.executable, "-c", CLIENTS[hub], *NAMES[hub]]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    for folder, sha in json.loads(done.stdout.splitlines()[-1]):
        record_property(OFFICIAL_CALL, {"huggingface": "huggingface_hub"}.get(hub, hub))
        assert {path: (Path(folder) / path).read_bytes() for path in CHAT} == CHAT
        assert sha in (None, mirrored.index()["acme/tiny-chat"]["revision"])


def test_openmind_hub_gets_the_mirror_by_the_name_on_modelers(
    mirrored: World, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    authority = Authority(tmp_path)
    program = "from openmind_hub import snapshot_download; print(snapshot_download('AcmeOne/tiny_chat'))"
    with (
        start(build_app(mirrored.mirror), tls=authority.server) as server,
        leading_to(server.url, authority, tmp_path) as environment,
    ):
        command = [client_python("modelers"), "-c", program]
        env = {**os.environ, **environment, "HOME": str(tmp_path)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    record_property(OFFICIAL_CALL, "openmind_hub")
    folder = Path(done.stdout.splitlines()[-1])
    assert {path: (folder / path).read_bytes() for path in CHAT} == CHAT
    assert folder.name == mirrored.index()["acme/tiny-chat"]["revision"]


@pytest.mark.parametrize("hub", ["huggingface", "modelscope", "modelers", "openxlab"])
def test_a_mirror_of_the_mirror_is_the_mirror(mirrored: World, hub: str, tmp_path: Path) -> None:
    with start(mirrored.mirror) as server:
        settings = mirrored.settings
        (tmp_path / "mirror.yaml").write_text(
            json.dumps({"destination": "copy", "models": ["tiny-chat"], "formats": ["hf"], "hubs": [hub]})
        )
        there = type(settings)(
            home=tmp_path / "home", registry=settings.registry, environ=environment(server.url)
        )
        report = apply(tmp_path / "mirror.yaml", settings=there)
    assert report.result == "changed"
    copy = tmp_path / "copy" / "acme/tiny-chat"
    assert {path: (copy / path).read_bytes() for path in CHAT} == CHAT
