"""A checkpoint whose files are in memory, and a small honest one of each format."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from converters.errors import IntegrityError, NotFoundError
from converters.formats.bytesource import MemoryFile
from tests.converters.oracle import INTERNLM2, make_model, write_hf, write_original

TOKENIZER = Path("internlm_zoo/demo/models/demo-internlm2-chat/tokenizer.model")
_DIMS = replace(INTERNLM2, layers=1, hidden=16, heads=2, kv_heads=1, inter=24, vocab=16)


@dataclass(frozen=True)
class MemoryFolder:
    """A `converters.formats.folder.Folder`."""

    files: Mapping[str, bytes]
    name: str = "memory"

    @property
    def in_order(self) -> bool:
        return False

    def names(self, below: str = "") -> Sequence[str]:
        return () if below else sorted(self.files)

    def where(self, name: str) -> str:
        return f"{self.name}/{name}"

    def open(self, name: str) -> MemoryFile:
        if name not in self.files:
            raise NotFoundError("there is no such file", self.where(name))
        return MemoryFile(self.where(name), self.files[name])

    def identity(self, name: str) -> str:
        return str(hash(self.files[name]))

    def known_sha256(self, name: str) -> str | None:
        return None

    def known_digest(self, name: str) -> Mapping[str, str] | None:
        return None

    def confirm(self) -> None:
        """Memory stays as it is."""

    def renew(self, names: Collection[str]) -> Mapping[str, IntegrityError]:
        return {}


@cache
def checkpoint(kind: str) -> Mapping[str, bytes]:
    """The files of a checkpoint. kind: hf, shards, llama, bin or original."""
    with tempfile.TemporaryDirectory() as folder:
        return content(_written(Path(folder) / "checkpoint", kind))


def _written(path: Path, kind: str) -> Path:
    model = make_model(_DIMS)
    if kind == "original":
        return write_original(path, model, _DIMS, 1)
    names = "llama" if kind == "llama" else "hf"
    container = "bin" if kind == "bin" else "safetensors"
    return write_hf(path, model, _DIMS, names, container, files=2 if kind == "shards" else 1)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
