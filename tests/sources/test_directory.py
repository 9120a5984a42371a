from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.sources.contract import SourceContract


class TestDirectory(SourceContract):
    protocol = "directory"

    @contextmanager
    def serve(self, root: Path) -> Iterator[str]:
        yield str(root)


class TestFileUrl(TestDirectory):
    @contextmanager
    def serve(self, root: Path) -> Iterator[str]:
        yield root.as_uri()
