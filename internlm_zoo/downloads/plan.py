"""A download before it happens: which files of which revision, from where, how many bytes.

It is looked at, narrowed, and then carried out as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from converters.progress import byte_count
from internlm_zoo.downloads.request import DownloadRequest
from internlm_zoo.downloads.result import DownloadedFile
from internlm_zoo.downloads.selection import Selection
from internlm_zoo.errors import NotFoundError
from internlm_zoo.registry.lock import LockedRelease


@dataclass(frozen=True)
class PlannedFile(DownloadedFile):
    """What it would be: size and sha256 are None where neither the hub nor the lock tells. to_fetch: bytes
    that are still to come, without those that an interrupted run left."""

    to_fetch: int = 0

    @property
    def origin(self) -> str:
        """In words."""
        if self.source is None:
            return str(self.taken_from or "here already")
        begun = self.size is not None and self.to_fetch < self.size
        return f"{self.source}, {byte_count(self.to_fetch)} to come" if begun else self.source

    def __str__(self) -> str:
        size = "size unknown" if self.size is None else byte_count(self.size)
        return f"{self.path}  {size}  {self.origin}"


@dataclass(frozen=True)
class DownloadPlan:
    """files: those to be had, at least one. release: the revision they are of, with all its files. path: the
    folder they go to. request: what was asked for. notes: why other sources were no use, and the like."""

    files: tuple[PlannedFile, ...]
    path: Path
    release: LockedRelease = field(repr=False)
    request: DownloadRequest = field(repr=False)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.files:
            raise NotFoundError("no file is selected", self.release.id, "print the plan to see what there is")

    @property
    def model(self) -> str:
        return self.request.model

    @property
    def hub(self) -> str:
        return self.release.hub

    @property
    def repo(self) -> str:
        return self.release.repo

    @property
    def revision(self) -> str:
        return self.release.revision

    @property
    def format(self) -> str | None:
        return self.release.format

    @property
    def selection(self) -> Selection:
        whole = len(self.files) == len(self.release.files)
        return Selection() if whole else Selection(tuple(file.path for file in self.files))

    @property
    def size(self) -> int:
        """Bytes of the files whose size is known."""
        return sum(file.size or 0 for file in self.files)

    @property
    def to_fetch(self) -> int:
        return sum(file.to_fetch for file in self.files)

    @property
    def summary(self) -> str:
        unknown = sum(file.size is None for file in self.files)
        more = f" and {unknown} files of unknown size" if unknown else ""
        return f"{byte_count(self.to_fetch)} of {byte_count(self.size)}{more} to fetch into {self.path}"

    def only(self, *globs: str) -> DownloadPlan:
        """The files that match one of the globs, over whole paths. Raises NotFoundError if none does."""
        return self._narrowed(Selection(include=globs))

    def without(self, *globs: str) -> DownloadPlan:
        """The files that match none of the globs. Raises NotFoundError if that leaves none."""
        return self._narrowed(Selection(exclude=globs))

    def _narrowed(self, selection: Selection) -> DownloadPlan:
        return replace(self, files=tuple(file for file in self.files if selection.wants(file.path)))

    def __str__(self) -> str:
        title = f"{self.model}: {self.release.id} at {self.revision}"
        return "\n".join([title, *(f"  {file}" for file in self.files), self.summary])
