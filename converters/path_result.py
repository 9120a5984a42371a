"""Results that stand for the folder they made."""

from __future__ import annotations

from pathlib import Path


class PathResult:
    """Taken for its `path` by `open`, `os.fspath`, `str` and `/`."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, below: str) -> Path:
        return self.path / below
