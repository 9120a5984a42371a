"""What the hubs of these tests hold, and the digests that clients must end up with."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

REPO = "acme/tiny-7b"

FILES = {
    "config.json": b'{"model_type": "llama"}\n',
    "empty.txt": b"",
    "model.safetensors": random.Random(1).randbytes(3_500_003),
    "notes/读我.md": "# 模型\n".encode(),
    "notes/deep/er/note with space & 100%.txt": b"nested\n",
    "tokenizer.model": random.Random(2).randbytes(70_001),
}


def write(root: Path, files: dict[str, bytes] = FILES, repo: str = REPO) -> Path:
    """Lay a repository down below root; returns its folder."""
    for path, content in files.items():
        file = root / repo / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return root / repo


def digests(files: dict[str, bytes] = FILES) -> dict[str, str]:
    return {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}


def digests_below(folder: Path) -> dict[str, str]:
    """Every file below a folder, the clients' own bookkeeping (names with a leading dot) aside."""
    found = {}
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder).as_posix()
        if file.is_file() and not any(part.startswith(".") for part in path.split("/")):
            found[path] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found
