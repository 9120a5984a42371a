"""A mirror file, understood: what every verb begins with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from internlm_zoo.downloads.candidates import AUTO
from internlm_zoo.downloads.selection import Selection
from internlm_zoo.errors import UsageError
from internlm_zoo.mirror.config import MirrorFile, RunOptions
from internlm_zoo.mirror.destinations import Destination, open_destination
from internlm_zoo.mirror.entries import MirrorEntries
from internlm_zoo.mirror.limit import Limit
from internlm_zoo.mirror.reading import read_mirror_file
from internlm_zoo.mirror.values import Policy
from internlm_zoo.registry import load_registry
from internlm_zoo.settings import Settings


@dataclass(frozen=True)
class MirrorJob:
    """A mirror file, understood."""

    mirror: MirrorFile
    wanted: MirrorEntries
    destination: Destination
    settings: Settings
    options: RunOptions
    limit: Limit

    @property
    def policy(self) -> Policy:
        """A run that is about some files alone removes none that it was not asked about."""
        narrow = self.options.choice
        return Policy(self.mirror.prune and narrow == Selection(), self.mirror.choice, narrow)

    @property
    def is_ordered(self) -> bool:
        """Whether the user chose the order of hubs."""
        return bool(self.mirror.hubs or self.settings.sources) or self.options.source != AUTO

    @property
    def paths(self) -> list[str]:
        """Of the releases that are asked for."""
        return [entry.path for entry in self.wanted.entries]


def open_job(file: Path, settings: Settings, options: RunOptions) -> MirrorJob:
    """Raises what is wrong with the file, UsageError for options that make no sense."""
    registry = load_registry(settings)
    mirror, found = read_mirror_file(file, registry, settings, options.source)
    destination = open_destination(mirror.destination)
    limit = mirror.max_delete if options.max_delete is None else _limit(options.max_delete)
    return MirrorJob(mirror, found, destination, settings, options, limit)


def _limit(text: str | int) -> Limit:
    try:
        return Limit.parse(text)
    except ValueError as error:
        raise UsageError(str(error), "`max_delete`") from error
