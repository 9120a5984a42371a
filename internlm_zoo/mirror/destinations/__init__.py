"""Where a mirror lies. A new kind of place is one module and one line in `open_destination`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from internlm_zoo.mirror.index import HeldFile, Index
from internlm_zoo.mirror.planning import Seen
from internlm_zoo.progress import Progress


class Destination(Protocol):
    """One mirror. Paths of releases are `org/name`, paths of files are relative to their release.

    Every path is checked again: an index may have been tampered with. Raises IntegrityError.
    """

    def guard(self) -> AbstractContextManager[None]:
        """Hold while changing it. Raises UsageError if another apply does, or if it cannot be written to."""
        ...

    def index(self) -> Index:
        """Empty for a mirror that is new. Raises IntegrityError, UsageError if it is no place for a
        mirror."""
        ...

    def publish(self, index: Index) -> None:
        """Replace the index in one step."""
        ...

    def examine(self, path: str, files: Iterable[HeldFile], *, deep: bool, progress: Progress) -> Seen:
        """How the files of a release are. deep: hash every one; otherwise those that were touched since."""
        ...

    def stage(self, path: str, adopt: Iterable[str]) -> Path:
        """A local folder in which the files of a release are gathered, out of sight of readers; it survives a
        kill. adopt: files at their place that nobody vouches for, to be looked at there too."""
        ...

    def take_in(self, path: str, files: Iterable[str]) -> Mapping[str, str]:
        """Move files from the stage to their place. Returns their stamps, see HeldFile."""
        ...

    def remove(self, path: str, files: Iterable[str] | None = None) -> None:
        """Remove files of a release, or all of it. What is not there is no error."""
        ...

    def clear(self, path: str) -> None:
        """Forget the stage of one release."""
        ...

    def tidy(self, wanted: Collection[str]) -> None:
        """Forget the stages of all releases but these."""
        ...


def open_destination(destination: str) -> Destination:
    """destination: an absolute path."""
    from internlm_zoo.mirror.destinations.directory import DirectoryDestination

    return DirectoryDestination(Path(destination))
