"""A `mirror.json` as `mirror apply` writes it, about files that somebody else put there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_index(root: Path, *releases: Mapping[str, Any]) -> None:
    (root / "mirror.json").write_text(json.dumps({"schema": 1, "releases": releases}))


def indexed(
    path: str,
    files: Iterable[Mapping[str, Any]],
    revision: str | None = None,
    names: Iterable[tuple[str, str]] = (),
) -> dict[str, Any]:
    """names: hub and repository."""
    return {
        "path": path,
        "model": "tiny-7b",
        "format": "hf",
        "revision": revision,
        "source": {"hub": "huggingface", "repo": path, "revision": revision or "main"},
        "trust": "hub",
        "names": [{"hub": hub, "repo": repo} for hub, repo in names],
        "files": [{"git_sha1": None, "stamp": "", **file} for file in files],
    }
