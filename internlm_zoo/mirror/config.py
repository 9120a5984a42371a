"""`mirror.yaml`: what a mirror holds and where it lies; and what one run is told besides.

destination: /srv/mirror           # a directory; a relative one is beside this file
models: [internlm-chat-*, internlm2-7b]
formats: [hf]                      # default: hf and original
hubs: [modelscope, huggingface]    # who is asked, in this order; default: the registry's
include: ["*.safetensors", "*.json"]   # of each release only files that match one of these; default: all
exclude: ["*.bin"]                 # and none that matches one of these
prune: true                        # remove what is no longer chosen; default: false
max_delete: 25%                    # an apply that would remove more stops; files, or a percentage
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import Field, PlainValidator, WithJsonSchema

from internlm_zoo.downloads.candidates import AUTO
from internlm_zoo.downloads.selection import LONGEST, Selection
from internlm_zoo.mirror.limit import DEFAULT, Limit
from internlm_zoo.registry import Registry
from internlm_zoo.registry.entry import RegistryEntry, Text
from internlm_zoo.registry.release import Format

Glob = Annotated[str, Field(min_length=1, max_length=LONGEST)]


class MirrorFile(RegistryEntry):
    """destination: as written; `read_mirror_file` makes it an absolute path. models: names and globs."""

    destination: Text
    models: Annotated[tuple[Glob, ...], Field(min_length=1)]
    formats: Annotated[tuple[Format, ...], Field(min_length=1)] = ("hf", "original")
    hubs: tuple[Glob, ...] = ()
    include: tuple[Glob, ...] = ()
    exclude: tuple[Glob, ...] = ()
    prune: bool = False
    max_delete: Annotated[
        Limit, PlainValidator(Limit.parse), WithJsonSchema({"type": ["integer", "string"]})
    ] = DEFAULT

    @property
    def choice(self) -> Selection:
        return Selection(include=self.include, exclude=self.exclude)


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


def chosen(mirror: MirrorFile, registry: Registry) -> list[str]:
    """The models that the names and globs mean, in registry order."""
    return [name for name in registry.models if any(fnmatchcase(name, pattern) for pattern in mirror.models)]
