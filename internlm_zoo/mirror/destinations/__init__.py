"""Where a mirror lies. A new kind of place is one module and one line in `open_destination`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from internlm_zoo.files import File
from internlm_zoo.mirror.values import FileCount, LocalState
from internlm_zoo.progress import Progress
from internlm_zoo.store.mirror_index import Index, IndexedFile


class Destination(Protocol):
    """One mirror. Paths of releases are `org/name`, paths of files are relative to their release.

    Every path is checked again: an index may have been tampered with. Raises IntegrityError.
    """

    def guard(self) -> AbstractContextManager[None]:
        """Hold while changing it. Raises UsageError if another apply does, or if it cannot be written to."""

    def closed(self) -> bool:
        """Whether nothing can be written there."""

    def index(self) -> Index:
        """Empty for a mirror that is new. Raises IntegrityError, UsageError if it is no place for a
        mirror."""

    def publish(self, index: Index) -> None:
        """Replace the index in one step."""

    def examine(
        self, path: str, files: Iterable[IndexedFile], *, deep: bool, progress: Progress
    ) -> LocalState:
        """How the files of a release are. deep: hash every one; otherwise those that were touched since."""

    def recognise(self, path: str, files: Iterable[File], *, progress: Progress) -> Mapping[str, IndexedFile]:
        """Those of the files, all with digests, that lie at their place and are right."""

    def local(self, path: str) -> Path | None:
        """The folder in which the files of a release can be read on this machine, if there is one."""

    def stage(self, path: str) -> Path:
        """A local folder in which the files of a release are gathered, out of sight of readers; it survives a
        kill. It need not be there yet."""

    def commit(self, path: str, files: Iterable[str]) -> Mapping[str, str]:
        """Move files from the stage to their place. Returns their stamps, see IndexedFile."""

    def remove(self, path: str, files: Mapping[str, str]) -> tuple[str, ...]:
        """Remove files of a release, by their stamps when that was decided. Returns those that were written
        to since, and stay. What is not there is no error."""

    def clear(self, path: str) -> None:
        """Forget the stage of one release."""

    def unfinished(self, wanted: Collection[str]) -> FileCount:
        """What lies on the stages of all releases but these."""

    def tidy(self, wanted: Collection[str]) -> None:
        """Forget the stages of all releases but these."""

    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the place."""


def open_destination(destination: str) -> Destination:
    """destination: an absolute path."""
    from internlm_zoo.mirror.destinations.directory import DirectoryDestination

    return DirectoryDestination(Path(destination))
