"""What one run is told besides the mirror file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from internlm_zoo.downloads.candidates import AUTO
from internlm_zoo.downloads.selection import Selection


@dataclass(frozen=True)
class RunOptions:
    """deep: hash every file of the mirror, not only those touched since they were taken in. files, include,
    exclude: the files, of all releases, that this run is about, see Selection. source: auto, a hub that is
    asked instead of the mirror file's, or a URL or directory that stands in for all. adopt: folders below
    which files may be, besides the store, the caches of the hubs' own clients and the mirror itself.
    max_delete: instead of the mirror file's. max_workers: files at a time. max_rate: bytes per second, or a
    size such as "20MB"."""

    deep: bool = False
    files: Sequence[str] = ()
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    source: str = AUTO
    adopt: Sequence[Path] = ()
    max_delete: str | int | None = None
    max_workers: int = 8
    max_rate: str | int | None = None

    @property
    def choice(self) -> Selection:
        return Selection(tuple(self.files), tuple(self.include), tuple(self.exclude))
