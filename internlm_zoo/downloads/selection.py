"""Which files of a release are wanted: those that are named, those that a glob means, or all."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from converters.errors import parameter
from internlm_zoo.errors import NotFoundError, UsageError
from internlm_zoo.files import File
from internlm_zoo.registry.lock import LockedRelease

LONGEST = 1024
"""Characters of a glob: no path is as long, and `fnmatch` takes the square of its brackets in time."""


@dataclass(frozen=True)
class Selection:
    """files: exact paths. include, exclude: globs over whole paths; `*` crosses folders, and what ends in a
    slash means all below a folder. A file is wanted if it is named or included, or if nothing is named nor
    included; and never if it is excluded."""

    files: Sequence[str] = ()
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        for glob in (*self.include, *self.exclude):
            if len(glob) > LONGEST:
                what = f"a glob has {len(glob)} characters, more than {LONGEST}"
                raise UsageError(what, fix="name fewer files at a time, or a folder as `sub/`")

    def of(self, release: LockedRelease) -> tuple[File, ...]:
        """Raises NotFoundError if a named file is not there, whatever else is, or nothing is wanted."""
        paths = {file.path: None for file in release.files}
        if missing := [path for path in self.files if path not in paths]:
            what = f"there is no file {' and no '.join(missing)}"
            raise NotFoundError(what, release.id, hint(missing[0], paths) or _LOOK)
        chosen = tuple(file for file in release.files if self.wants(file.path))
        if not chosen:
            raise NotFoundError("no file is selected", release.id, _LOOK)
        return chosen

    def wants(self, path: str) -> bool:
        everything = not (self.files or self.include)
        chosen = everything or path in self._named or _matches(path, self.include)
        return chosen and not _matches(path, self.exclude)

    @cached_property
    def _named(self) -> Collection[str]:
        return frozenset(self.files)


EVERYTHING = Selection()
_LOOK = "`dry_run` lists what there is"


def _matches(path: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(path, f"{glob}*" if glob.endswith("/") else glob) for glob in globs)


def hint(missing: str, paths: Collection[str]) -> str | None:
    """What may have been meant: a glob, a folder, another spelling, or a file of that name in a folder."""
    if len(missing) > LONGEST:
        return None
    below = f"{missing.rstrip('/')}/"
    if any(path.startswith(below) for path in paths):
        return f"that is a folder: {parameter('include', below)}"
    if any(fnmatchcase(path, missing) for path in paths):
        return f"a glob goes into {parameter('include', missing)}"
    name = missing.rsplit("/", 1)[-1].casefold()
    same = [path for path in paths if path.rsplit("/", 1)[-1].casefold() == name]
    near = same or difflib.get_close_matches(missing, paths, n=3)
    return f"did you mean {' or '.join(near[:3])}?" if near else None
