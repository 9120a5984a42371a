"""One small model on three loopback hubs, each of which can be made to misbehave, and a user with an empty
home."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from internlm_zoo import download, plan_download
from internlm_zoo.downloads.plan import DownloadPlan
from internlm_zoo.downloads.result import DownloadResult
from internlm_zoo.settings import Settings
from tests.hubs import FaultyHub
from tests.timing import PATIENCE

REPO, ORIGINAL = "acme/tiny", "acme/tiny-original"
WEIGHTS = "model.safetensors"
FILES = {
    "config.json": b'{"model_type": "internlm"}\n',
    "empty.txt": b"",
    WEIGHTS: random.Random(1).randbytes(600_007),
    "sub/读我.md": "# 模型\n".encode(),
    "tokenizer.model": random.Random(2).randbytes(70_001),
}
ORIGINAL_FILES = {
    "model_config.pt": b"config",
    "model_tp0_pp0.pt": random.Random(3).randbytes(50_000),
    "tokenizer.model": FILES["tokenizer.model"],
}
ENDPOINTS = {
    "huggingface": "HF_ENDPOINT",
    "modelscope": "MODELSCOPE_ENDPOINT",
    "modelers": "INTERNLM_ZOO_MODELERS_ENDPOINT",
    "openxlab": "INTERNLM_ZOO_OPENXLAB_ENDPOINT",
}


def overlay_of(hubs: Iterable[str]) -> str:
    """One in which each of them has the model, ready for more releases of it."""
    releases = "".join(f"      - {{hub: {hub}, repo: {REPO}, format: hf}}\n" for hub in hubs)
    return f"""
models:
  tiny:
    display_name: Tiny
    family: internlm
    size: 1m
    kind: base
    releases:
{releases}"""


OVERLAY = overlay_of(ENDPOINTS) + f"      - {{hub: openxlab, repo: {ORIGINAL}, format: original}}\n"


@dataclass
class World:
    """hubs: by name, all with the content of `root`. environ: the user's."""

    folder: Path
    hubs: Mapping[str, FaultyHub]
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "hub"

    @property
    def home(self) -> Path:
        return self.folder / "store"

    @property
    def settings(self) -> Settings:
        return Settings.from_environment(self.environ)

    @property
    def requests(self) -> int:
        return sum(len(hub.requests) for hub in self.hubs.values())

    @property
    def sent(self) -> dict[str, int]:
        return {name: hub.sent for name, hub in self.hubs.items()}

    def fault(self, kind: str | int, path: str = "*", hubs: str = "*", **how: Any) -> None:
        """Switch a fault on, on one hub or on all."""
        for name, hub in self.hubs.items():
            if hubs in ("*", name):
                hub.fault(kind, path, **how)

    def download(self, *files: str, **options: Any) -> DownloadResult:
        return download("tiny", files, settings=self.settings, **options)

    def plan(self, *files: str, **options: Any) -> DownloadPlan:
        return plan_download("tiny", files, settings=self.settings, **options)

    def published(self) -> list[Path]:
        """Everything the store shows under a final name."""
        return [path for path in self.home.glob("releases/**/*") if not path.is_dir()]


def open_world(folder: Path, stack: ExitStack) -> World:
    write(folder / "hub" / REPO, FILES)
    write(folder / "hub" / ORIGINAL, ORIGINAL_FILES)
    (folder / "overlay.yaml").write_text(OVERLAY)
    hubs = {name: stack.enter_context(FaultyHub(folder / "hub")) for name in ENDPOINTS}
    environ = {
        "HOME": str(folder),
        "INTERNLM_ZOO_HOME": str(folder / "store"),
        "INTERNLM_ZOO_REGISTRY": str(folder / "overlay.yaml"),
        "INTERNLM_ZOO_TIMEOUT": str(PATIENCE),
        "INTERNLM_ZOO_TRIES": "2",
    }
    environ |= {variable: hubs[name].url for name, variable in ENDPOINTS.items()}
    return World(folder, hubs, environ)


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def content_below(folder: Path | DownloadResult) -> dict[str, bytes]:
    """Every file of a release, without our own bookkeeping."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file() and ".internlm-zoo" not in path.parts)
    return {path.relative_to(Path(folder)).as_posix(): path.read_bytes() for path in paths}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
