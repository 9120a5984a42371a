"""What a download answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from converters.path_result import PathResult
from internlm_zoo.transfer.values import SourceStatistics


@dataclass(frozen=True)
class DownloadedFile:
    """size in bytes and sha256 in hex. source: the hub that delivered it, None if it was here. taken_from:
    where on this machine it was, if it came from another tool's cache or a folder of the user's."""

    path: str
    size: int | None
    sha256: str | None
    source: str | None
    taken_from: Path | None = None


@dataclass(frozen=True)
class DownloadResult(PathResult):
    """What a download did; it stands for its folder, `path`. sources: what each hub did. seconds: how long it
    took. trust: `hub` if the digests are the hub's own or another hub's, `first-use` if of what came.
    shown_in: the release in the cache of huggingface_hub."""

    model: str
    hub: str
    repo: str
    revision: str
    format: str | None
    path: Path
    files: tuple[DownloadedFile, ...]
    fetched_bytes: int
    reused_bytes: int
    sources: Mapping[str, SourceStatistics]
    trust: str
    notes: tuple[str, ...]
    seconds: float = 0.0
    shown_in: Path | None = None

    @property
    def served(self) -> dict[str, int]:
        """Bytes per hub, discarded ones too."""
        return {name: source.served for name, source in self.sources.items() if source.served}


@dataclass(frozen=True)
class Repaired:
    """A file that was wrong or missing and is right now. size: its bytes; kept: how many of them were
    believed. served: bytes that came for it, per hub."""

    path: str
    size: int
    kept: int
    served: Mapping[str, int]
