"""What a download is asked for, works with, and answers."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from internlm_zoo.caches.adopt import Adopter
from internlm_zoo.downloads.candidates import AUTO, Candidate
from internlm_zoo.downloads.listings import Hubs
from internlm_zoo.downloads.selection import Selection
from internlm_zoo.errors import ZooError
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings
from internlm_zoo.store.layout import Store
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.values import SourceStatistics


@dataclass(frozen=True)
class Request:
    """model: registry name. format, source, revision: which of its releases. local_dir: None for the store.
    adopt: folders below which files may be. hf_cache: show it in the cache of huggingface_hub. force: believe
    nothing that is there. cancel: the caller's event that ends it."""

    model: str
    selection: Selection
    format: str | None = None
    source: str = AUTO
    revision: str | None = None
    local_dir: Path | None = None
    adopt: Sequence[Path] = ()
    hf_cache: bool = False
    force: bool = False
    max_workers: int = 8
    cancel: threading.Event | None = None


@dataclass(frozen=True)
class Session:
    """everywhere: all releases of the model, whatever the user asked for, to compare with. adopter: looks
    where the files may be already. hopeless: why no hub delivered a content in this run, by format and
    content. told: notes on the hubs that this run has met."""

    settings: Settings
    store: Store
    hubs: Hubs
    client: Client
    progress: Progress
    everywhere: Sequence[Candidate]
    adopter: Adopter
    hopeless: dict[tuple[str | None, str], ZooError] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)


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
class Download:
    """What a download did. path: the folder. sources: what each hub did. seconds: how long it took. trust:
    `hub` if the digests are the hub's own or another hub's, `first-use` if they are of what came. shown_in:
    the release in the cache of huggingface_hub."""

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
        return {name: service.served for name, service in self.sources.items() if service.served}


@dataclass(frozen=True)
class Repaired:
    """A file that was wrong or missing and is right now. size: its bytes; kept: how many of them were
    believed. served: bytes that came for it, per hub."""

    path: str
    size: int
    kept: int
    served: Mapping[str, int]
