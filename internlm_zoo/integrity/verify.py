"""Hashes a folder again and names every file that is not what it should be.

Links are followed: a release in the store is as good as the blobs it points to.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from internlm_zoo.errors import NotFoundError
from internlm_zoo.progress import Progress
from internlm_zoo.registry.lock import LockedFile
from internlm_zoo.settings import Settings
from internlm_zoo.store.layout import is_ours
from internlm_zoo.store.locate import downloads_of, expected_files
from internlm_zoo.store.record import read_record
from internlm_zoo.transfer.digest import digest_file
from internlm_zoo.transfer.values import Wanted
from internlm_zoo.transfer.workers import work


@dataclass(frozen=True)
class WrongFile:
    """what: expected and found, in words."""

    path: str
    what: str


@dataclass(frozen=True)
class VerifyReport:
    """checked: files that should be there; size: bytes looked at. quick: only sizes were compared."""

    path: Path
    checked: int
    size: int
    quick: bool
    wrong: tuple[WrongFile, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not (self.wrong or self.missing or self.extra)


def verify_all(
    name_or_dir: str,
    workers: int | None = None,
    *,
    settings: Settings,
    quick: bool = False,
    progress: Progress | None = None,
) -> list[VerifyReport]:
    """A folder that a download or a conversion made, or every folder of a model in the store.

    Raises NotFoundError if nothing says what should be there.
    """
    from internlm_zoo.integrity.converted import is_converted, verify_converted

    reports = []
    for folder in downloads_of(name_or_dir, settings):
        if read_record(folder) is None and is_converted(folder):
            reports.append(verify_converted(folder, workers, quick=quick, progress=progress))
        else:
            expected = expected_files(folder, settings)
            reports.append(verify(folder, expected, workers, quick=quick, progress=progress))
    return reports


def verify(
    path: Path,
    expected: Iterable[LockedFile],
    workers: int | None = None,
    *,
    quick: bool = False,
    progress: Progress | None = None,
) -> VerifyReport:
    """Compare a folder with the files it should hold, several at a time.

    workers: defaults to one per processor. quick: compare sizes only. Raises NotFoundError if there is no
    folder.
    """
    if not path.is_dir():
        raise NotFoundError("there is no such folder to verify", path)
    wanted = {file.path: file for file in expected}
    found = set(_files(path))
    here = [file for name, file in sorted(wanted.items()) if name in found]
    progress = progress or Progress()
    sizes = [file.size for file in here if file.size is not None]
    progress.plan(len(here), sum(sizes) if len(sizes) == len(here) else None)
    check = partial(_check, path, quick=quick, progress=progress)
    results = work([partial(check, file) for file in here], workers or os.cpu_count() or 1, threading.Event())
    return VerifyReport(
        path=path,
        checked=len(wanted),
        size=sum(size for size, _ in results),
        quick=quick,
        wrong=tuple(
            WrongFile(file.path, what) for file, (_, what) in zip(here, results, strict=True) if what
        ),
        missing=tuple(sorted(wanted.keys() - found)),
        extra=tuple(sorted(found - wanted.keys())),
    )


def _files(folder: Path) -> Iterator[str]:
    """Paths of the files in a folder, with forward slashes; our own bookkeeping and dangling links are
    none."""
    for parent, _, names in os.walk(folder):
        for name in names:
            file = Path(parent, name)
            path = file.relative_to(folder).as_posix()
            if not is_ours(path) and file.exists():
                yield path


def _check(folder: Path, file: LockedFile, *, quick: bool, progress: Progress) -> tuple[int, str | None]:
    """The size, and what is wrong, in words."""
    path = folder / file.path
    try:
        size = path.stat().st_size
        if file.size not in (None, size):
            return size, f"expected {file.size:,} bytes, found {size:,}"
        if quick:
            return size, None
        progress.start(file.path, size)
        try:
            wanted = Wanted(file.path, file.size, file.sha256, file.git_sha1)
            digest = digest_file(path, wanted, partial(progress.advance, file.path))
        finally:
            progress.finish(file.path)
    except OSError as error:
        return 0, f"cannot be read: {error.strerror}"
    return size, digest.mismatch() if wanted.has_digest else "no digest of it is known"
