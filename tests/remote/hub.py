"""Releases on loopback hubs of every protocol, and a user who has none of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from converters import ConversionOptions, Execution
from internlm_zoo.checkpoints import conversion
from internlm_zoo.settings import Settings
from tests.converters.oracle import INTERNLM, INTERNLM2
from tests.hubs import FaultyHub

DIMS = replace(INTERNLM2, layers=4, hidden=256, heads=8, kv_heads=4, inter=768, vocab=2048)
OLDER = replace(INTERNLM, layers=3, hidden=256, heads=8, kv_heads=8, inter=768, vocab=2048)
BUDGET = 1.05
TALL = replace(DIMS, layers=1, vocab=8192)
TP1 = "acme/tp1", "model_tp0_pp0.pt"
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
    released_config: {max_position_embeddings: 4321}
    releases:
      - {hub: openxlab, repo: acme/nowhere, format: hf}
      - {hub: modelscope, repo: acme/hf, format: hf}
      - {hub: huggingface, repo: acme/tp2, format: original}
"""


@dataclass
class Place:
    """A user with an empty home, and hubs that hold the same releases."""

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

    def convert(self, name: str, force=False, engine="threads", progress=None, **options):
        return conversion.convert(
            conversion.ConversionSource(name, from_hub=True),
            self.dst,
            ConversionOptions(**options),
            Execution(force=force, engine=engine),
            settings=self.settings,
            progress=progress,
        )

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
