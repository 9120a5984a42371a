"""A directory kept in step with the hubs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.redaction import errors_redacted
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    from internlm_zoo.mirror import Report, RunOptions


@errors_redacted()
def plan_mirror(
    file: str | os.PathLike[str],
    *,
    files: Iterable[str] = (),
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    source: str = "auto",
    adopt: Iterable[str | os.PathLike[str]] = (),
    max_delete: str | int | None = None,
    deep: bool = False,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> Report:
    """What `apply_mirror` would copy, update, delete and keep, and from where; nothing is changed.

    file, files, include, exclude, source, adopt, max_delete, deep, progress, settings: as of `apply_mirror`.
    A hub that is silent is in the report. Raises what `apply_mirror` raises before it begins.
    """
    from internlm_zoo.mirror import plan

    how = {"source": source, "max_delete": max_delete, "deep": deep}
    options = _options(files, include, exclude, adopt, **how)
    return plan(Path(file), settings=Settings.or_environment(settings), options=options, progress=progress)


@errors_redacted()
def apply_mirror(
    file: str | os.PathLike[str],
    *,
    files: Iterable[str] = (),
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    source: str = "auto",
    adopt: Iterable[str | os.PathLike[str]] = (),
    max_delete: str | int | None = None,
    max_workers: int = 8,
    max_rate: str | int | None = None,
    deep: bool = False,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> Report:
    """Make the mirror hold what the file asks for, every file checked; go on where a killed run stopped.

    file: a mirror file, see docs/mirror.md. files, include, exclude: this run is about these of its files, as
    of `download`. source: a hub that is asked instead of the file's, or a URL or directory in place of all.
    adopt: folders below which files may be. max_delete: files, or a part as "25%"; where more would be
    removed nothing is done. max_workers: files at a time. max_rate: bytes per second of all of them, or
    "20MB". deep: hash every file of the mirror, not only those that were touched. progress: is told what
    happens. settings: instead of the environment's.
    A release that no hub delivers is left as it is and named in the report. Raises NotFoundError, UsageError
    or UnsupportedError for what is wrong with the file, IntegrityError for a mirror whose index cannot be
    read, NoSpaceError.
    """
    from internlm_zoo.mirror import apply

    how = {"source": source, "max_delete": max_delete, "deep": deep}
    options = _options(files, include, exclude, adopt, max_workers=max_workers, max_rate=max_rate, **how)
    return apply(Path(file), settings=Settings.or_environment(settings), options=options, progress=progress)


@errors_redacted()
def diff_mirror(
    file: str | os.PathLike[str],
    *,
    files: Iterable[str] = (),
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    source: str = "auto",
    adopt: Iterable[str | os.PathLike[str]] = (),
    deep: bool = False,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> Report:
    """How the mirror differs from its file and the hubs: what moved, is damaged, missing or to be removed.

    file, files, include, exclude, source, adopt, deep, progress, settings: as of `apply_mirror`.
    Raises what `plan_mirror` raises.
    """
    from internlm_zoo.mirror import diff

    options = _options(files, include, exclude, adopt, source=source, deep=deep)
    return diff(Path(file), settings=Settings.or_environment(settings), options=options, progress=progress)


def _options(
    files: Iterable[str],
    include: Iterable[str],
    exclude: Iterable[str],
    adopt: Iterable[str | os.PathLike[str]],
    **how: Any,
) -> RunOptions:
    from internlm_zoo.mirror import RunOptions

    how |= {"include": tuple(include), "exclude": tuple(exclude), "adopt": tuple(map(Path, adopt))}
    return RunOptions(files=tuple(files), **how)
