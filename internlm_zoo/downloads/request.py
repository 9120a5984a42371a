"""What a download is asked for: one value from whoever asks to whoever needs a part of it.

A new option is a field here, a keyword of `internlm_zoo.download` and an option of the command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from internlm_zoo.downloads.candidates import AUTO
from internlm_zoo.downloads.selection import EVERYTHING, Selection
from internlm_zoo.errors import UsageError


@dataclass(frozen=True)
class DownloadRequest:
    """model: its name in the registry. selection: which of its files. format: None for whichever there is of
    the model's own weights, hf before original. source: auto, a hub's name, or a URL or directory that stands
    in for the hubs. revision: a branch, tag or commit. local_dir: plain files there; None for the store.
    adopt: folders below which files may be, besides the caches of the hubs' own clients. hf_cache: show the
    release, which is whole and in hf format then, in the cache of huggingface_hub, too. force: believe no
    digest that was taken earlier, and use a local_dir that is not empty. max_workers: files at a time.
    max_rate: bytes per second of all connections together, or a size such as "20MB"."""

    model: str
    selection: Selection = EVERYTHING
    format: str | None = None
    source: str = AUTO
    revision: str | None = None
    local_dir: Path | None = None
    adopt: Sequence[Path] = ()
    hf_cache: bool = False
    force: bool = False
    max_workers: int = 8
    max_rate: str | int | None = None

    def in_cache_format(self) -> DownloadRequest:
        """With the format that other tools can be shown. Raises UsageError for what they cannot."""
        if not self.hf_cache:
            return self
        if self.local_dir is not None or self.selection != EVERYTHING or self.format not in (None, "hf"):
            what = "`hf_cache=True` shows whole releases in hf format, from the store"
            raise UsageError(what, fix="leave out `local_dir`, another `format`, and what chooses files")
        return replace(self, format="hf")
