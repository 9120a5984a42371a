"""Which files of a release are wanted: named ones, or all, narrowed by globs."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from internlm_zoo.errors import NotFoundError
from internlm_zoo.registry.lock import LockedFile, LockedRelease


@dataclass(frozen=True)
class Selection:
    """files: exact paths (none: all). include, exclude: globs over whole paths; `*` crosses folders."""

    files: Sequence[str] = ()
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def of(self, release: LockedRelease) -> tuple[LockedFile, ...]:
        """Raises NotFoundError if a named file is not there, or nothing matches."""
        for path in self.files:
            if release.file(path) is None:
                near = difflib.get_close_matches(path, [file.path for file in release.files], n=3)
                fix = f"did you mean {' or '.join(near)}?" if near else "`--dry-run` lists what there is"
                raise NotFoundError(f"there is no file {path}", release.id, fix)
        chosen = tuple(file for file in release.files if self.wants(file.path))
        if not chosen:
            raise NotFoundError("no file is selected", release.id, "`--dry-run` lists what there is")
        return chosen

    def wants(self, path: str) -> bool:
        named = not self.files or path in self.files
        included = not self.include or any(fnmatchcase(path, glob) for glob in self.include)
        return named and included and not any(fnmatchcase(path, glob) for glob in self.exclude)
