"""Four loopback hubs of which each holds its own copies, a registry that knows them, and a mirror file."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from internlm_zoo.settings import Settings
from tests.hubs import FaultyHub
from tests.serve.indexed import indexed, write_index

OVERLAY = """
hubs:
  elsewhere: {title: Elsewhere}  # listed only: nothing here speaks its protocol
models:
  tiny-chat:
    display_name: Tiny Chat
    family: internlm
    size: 1m
    kind: chat
    releases:
      - {hub: huggingface, repo: acme/tiny-chat, format: hf, also_listed_as: [acme/chat-tiny]}
      - {hub: modelscope, repo: Acme_Lab/tiny-chat, format: hf}
      - {hub: modelers, repo: AcmeOne/tiny_chat, format: hf}
      - {hub: openxlab, repo: AcmeLab/Tiny-chat, format: hf}
      - {hub: openxlab, repo: AcmeLab/Tiny-chat-original, format: original}
  tiny-base:
    display_name: Tiny Base
    family: internlm
    size: 1m
    kind: base
    releases:
      - {hub: huggingface, repo: acme/tiny-base, format: hf}
      - {hub: modelscope, repo: Acme_Lab/tiny-base, format: hf}
  tiny-lost:
    display_name: Tiny Lost
    family: internlm
    size: 1m
    kind: base
    releases:
      - {hub: huggingface, repo: acme/tiny-lost, format: hf}
      - {hub: modelscope, repo: Acme_Lab/tiny-lost, format: hf}
  tiny-listed:
    display_name: Tiny Listed
    family: internlm
    size: 1m
    kind: base
    releases:
      - {hub: elsewhere, repo: acme/tiny-listed, format: hf}
"""
ENDPOINTS = {
    "huggingface": "HF_ENDPOINT",
    "modelscope": "MODELSCOPE_ENDPOINT",
    "modelers": "INTERNLM_ZOO_MODELERS_ENDPOINT",
    "openxlab": "INTERNLM_ZOO_OPENXLAB_ENDPOINT",
}


def weights(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


CHAT = {
    ".gitattributes": b"*.safetensors filter=lfs\n",
    "README.md": b"# tiny\n",
    "config.json": b'{"model_type": "internlm"}\n',
    "model.safetensors": weights(1, 1_200_000),
    "sub/tokenizer.model": weights(2, 40_000),
}
BASE = {"config.json": b"{}\n", "model.safetensors": weights(3, 300_000)}
ORIGINAL = {"model_config.pt": weights(4, 900), "model_tp0_pp0.pt": weights(5, 500_000)}
REPOS: Mapping[str, Mapping[str, Mapping[str, bytes]]] = {
    "huggingface": {"acme/tiny-chat": CHAT, "acme/tiny-base": BASE},
    "modelscope": {"Acme_Lab/tiny-chat": CHAT, "Acme_Lab/tiny-base": BASE},
    "modelers": {"AcmeOne/tiny_chat": CHAT},
    "openxlab": {"AcmeLab/Tiny-chat": CHAT, "AcmeLab/Tiny-chat-original": ORIGINAL},
}


@dataclass
class World:
    root: Path
    hubs: dict[str, FaultyHub] = field(default_factory=dict)
    more: dict[str, str] = field(default_factory=dict)

    @property
    def mirror(self) -> Path:
        return self.root / "mirror"

    @property
    def file(self) -> Path:
        return self.root / "mirror.yaml"

    @property
    def settings(self) -> Settings:
        environ = {**self.environ, "INTERNLM_ZOO_TRIES": "1"}
        return Settings(home=self.root / "home", registry=self.root / "overlay.yaml", environ=environ)

    @property
    def environ(self) -> dict[str, str]:
        return {**{ENDPOINTS[name]: hub.url for name, hub in self.hubs.items()}, **self.more}

    @property
    def sent(self) -> int:
        return sum(hub.sent for hub in self.hubs.values())

    def ask(self, **fields: Any) -> Path:
        """Write the mirror file."""
        wanted = {"destination": "mirror", "models": ["tiny-chat", "tiny-base"], **fields}
        self.file.write_text(json.dumps(wanted))
        return self.file

    def put(self, hub: str, repo: str, path: str, content: bytes | None) -> None:
        """Change what a hub holds; None: the file goes."""
        file = self.root / hub / repo / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink() if content is None else file.write_bytes(content)
        _index(self.root / hub)

    def held(self, release: str) -> dict[str, bytes]:
        folder = self.mirror / release
        found = (file for file in folder.rglob("*") if file.is_file())
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}

    def index(self) -> dict[str, Any]:
        document = json.loads((self.mirror / "mirror.json").read_text())
        return {release["path"]: release for release in document["releases"]}


@contextmanager
def open_world(root: Path) -> Iterator[World]:
    world = World(root)
    (root / "overlay.yaml").write_text(OVERLAY)
    with ExitStack() as stack:
        for hub, repos in REPOS.items():
            for repo, files in repos.items():
                for path, content in files.items():
                    world.put(hub, repo, path, content)
            world.hubs[hub] = stack.enter_context(FaultyHub(root / hub))
        world.ask()
        yield world


def _index(hub: Path) -> None:
    """Dot files are served where an index lists them."""
    repos = sorted(hub.glob("*/*"))
    write_index(hub, *(indexed(repo.relative_to(hub).as_posix(), _facts(repo)) for repo in repos))


def _facts(repo: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(path for path in repo.rglob("*") if path.is_file()):
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        yield {"path": file.relative_to(repo).as_posix(), "size": len(content), "sha256": digest}
