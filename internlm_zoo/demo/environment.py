"""Hubs on loopback: four that hold the two demo models, and one hub with a wrong byte.

The models are the ones that ship with the package, in original format; their Hugging Face form is what
conversion makes of them. The overlay beside this file says under which names the hubs list them.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from converters.saved import MIRROR
from internlm_zoo import convert
from internlm_zoo.serve.background import start
from internlm_zoo.settings import Settings
from internlm_zoo.store.mirror_index import IndexedFile, IndexedRelease, IndexedSource, dump, read_index

MODELS = ("demo-internlm-base", "demo-internlm2-chat")
BUNDLED = Path(__file__).parent / "models"
OVERLAY = Path(__file__).parent / "overlay.yaml"
_ORGANISATION = "internlm-zoo"
ENDPOINTS = {
    "huggingface": "HF_ENDPOINT",
    "modelscope": "MODELSCOPE_ENDPOINT",
    "modelers": "INTERNLM_ZOO_MODELERS_ENDPOINT",
    "openxlab": "INTERNLM_ZOO_OPENXLAB_ENDPOINT",
}


@dataclass(frozen=True)
class Environment:
    """root: everything the demo writes. hubs: hub name -> URL. faulty: URL of a Hugging Face hub that lists
    the right digests and sends weights with one byte flipped."""

    root: Path
    hubs: Mapping[str, str]
    faulty: str

    def work(self, model: str) -> Path:
        """A directory for what is made of one model; it exists."""
        path = self.root / "work" / model
        path.mkdir(parents=True, exist_ok=True)
        return path

    def settings(self, home: str, **hubs: str) -> Settings:
        """As for a user whose store is empty and lies in `root/home`; hubs: other URLs for some of them."""
        environ = {ENDPOINTS[hub]: url for hub, url in {**self.hubs, **hubs}.items()}
        return Settings(home=self.root / home, registry=OVERLAY, environ=environ)


@contextmanager
def open_environment(root: Path) -> Iterator[Environment]:
    """Build the hubs' contents below `root`, serve them on free ports, and stop at the end."""
    for name in MODELS:
        _publish(name, root / "hubs", root / "faulty")
    with ExitStack() as stack:
        urls = {hub: stack.enter_context(start(root / "hubs")).url for hub in ENDPOINTS}
        yield Environment(root, urls, stack.enter_context(start(root / "faulty")).url)


def _publish(name: str, hubs: Path, faulty: Path) -> None:
    offline = Settings(home=hubs.parent / "build", offline=True)
    good, bad = hubs / _ORGANISATION / name, faulty / _ORGANISATION / name
    shutil.copytree(BUNDLED / name, hubs / _ORGANISATION / f"{name}-original")
    convert(BUNDLED / name, good, settings=offline, to="hf", known_as=name)
    shutil.copytree(good, bad)
    weights = bytearray((good / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 0x01
    (bad / "model.safetensors").write_bytes(weights)
    _claim_the_digests_of(good, faulty, bad)


def _claim_the_digests_of(good: Path, faulty: Path, bad: Path) -> None:
    """With the times of the bad ones, so that the server believes them."""
    path = bad.relative_to(faulty).as_posix()
    files = tuple(
        IndexedFile(
            path=file.name,
            size=file.stat().st_size,
            sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
            git_sha1=None,
            stamp=str((bad / file.name).stat().st_mtime_ns),
        )
        for file in sorted(good.iterdir())
    )
    source = IndexedSource("huggingface", path, "main")
    release = IndexedRelease(path, good.name, "hf", None, source, "hub", (), files)
    (faulty / MIRROR.file).write_text(dump(read_index(faulty).put(release)))
