"""Hashes a folder again and names every file that is not what it should be.

Links are followed: a release in the store is as good as the blobs it points to.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from converters.formats.access import is_directory, no_directory
from converters.system.system_files import files_below
from internlm_zoo.downloads.values import Repaired
from internlm_zoo.errors import AccessError, NotFoundError, UnsupportedError, ZooError
from internlm_zoo.progress import Progress
from internlm_zoo.registry import load_registry
from internlm_zoo.registry.lock import LockedFile
from internlm_zoo.registry.quoted import QuotedFact, witnesses
from internlm_zoo.settings import Settings
from internlm_zoo.sources.paths import folded
from internlm_zoo.store.block_digests import read_blocks
from internlm_zoo.store.layout import BOOKS, Store, is_ours
from internlm_zoo.store.locate import downloads_of, expected_files, lock_or_none
from internlm_zoo.store.record import NAME, UNREADABLE, read_record
from internlm_zoo.transfer.blocks import BLOCK
from internlm_zoo.transfer.digest import digest_file
from internlm_zoo.transfer.seeding import wrong_blocks
from internlm_zoo.transfer.values import Wanted
from internlm_zoo.transfer.workers import work

UNREAD = (*UNREADABLE, AccessError, NotFoundError)
"""Why nothing may be known of one folder, which is no reason to leave out the others."""


@dataclass(frozen=True)
class WrongFile:
    """what: expected and found, in words."""

    path: str
    what: str


@dataclass(frozen=True)
class VerifyReport:
    """checked: files that should be there; size: bytes looked at. quick: only sizes were compared. repaired:
    files that were wrong or missing and are right now. quoted: what public sources quote of those that are
    right; it decides nothing. added: of a conversion, files that came later and change nothing of what is
    loaded: they are not wrong."""

    path: Path
    checked: int
    size: int
    quick: bool
    wrong: tuple[WrongFile, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    repaired: tuple[Repaired, ...] = ()
    quoted: tuple[QuotedFact, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not (self.wrong or self.missing or self.extra)


def verify_all(
    name_or_dir: str,
    workers: int | None = None,
    *,
    settings: Settings,
    quick: bool = False,
    repair: bool = False,
    progress: Progress | None = None,
) -> list[VerifyReport]:
    """A folder that a download or a conversion made, or every folder of a model in the store.

    repair: fetch again what is wrong or missing of a download, block by block where its blocks are known,
    from any hub that has the file. Raises NotFoundError if nothing says what should be there; with `repair`
    UnsupportedError for a conversion, and what `download` raises."""
    from internlm_zoo.integrity.converted import is_converted, verify_converted

    folders, progress = downloads_of(name_or_dir, settings), progress or Progress()
    lock, reports = lock_or_none(settings, progress.note), []
    for folder in folders:
        try:
            conversion = read_record(folder) is None and is_converted(folder)
            expected = () if conversion else expected_files(folder, lock)
        except UNREAD as error:
            if len(folders) == 1:
                raise
            reports.append(unread(folder, error))
            continue
        if conversion:
            report = verify_converted(folder, workers, quick=quick, progress=progress)
            _refuse_repair(report, repair)
        else:
            report = verify(
                folder, expected, workers, quick=quick, store=Store(settings.home), progress=progress
            )
            report = _repaired(report, expected, settings, progress) if repair else report
            report = report if quick else replace(report, quoted=_quoted(report, expected, settings))
        reports.append(report)
    return reports


def unread(folder: Path, error: ZooError) -> VerifyReport:
    """Of a release of which nothing says what should be in it."""
    return VerifyReport(folder, 0, 0, False, (WrongFile(f"{BOOKS}/{NAME}", error.what),), (), ())


def _refuse_repair(report: VerifyReport, repair: bool) -> None:
    if repair and not report.ok:
        what = "a conversion is not mended, because nobody but its source has these files"
        raise UnsupportedError(what, report.path, "convert it again with --force")


def _quoted(
    report: VerifyReport, expected: Iterable[LockedFile], settings: Settings
) -> tuple[QuotedFact, ...]:
    record = read_record(report.path)
    found = record and load_registry(settings).listing(record.release.hub, record.release.repo)
    if not found:
        return ()
    bad = {*report.missing, *(file.path for file in report.wrong)}
    return witnesses(found[1].quoted_files, [file for file in expected if file.path not in bad])


def _repaired(
    report: VerifyReport, expected: Iterable[LockedFile], settings: Settings, progress: Progress | None
) -> VerifyReport:
    from internlm_zoo.downloads.repair import repair

    damaged = {*report.missing, *(file.path for file in report.wrong)}
    if not damaged:
        return report
    files = [file for file in expected if file.path in damaged]
    return replace(report, wrong=(), missing=(), repaired=repair(report.path, files, settings, progress))


def verify(
    path: Path,
    expected: Iterable[LockedFile],
    workers: int | None = None,
    *,
    quick: bool = False,
    store: Store | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Compare a folder with the files it should hold, several at a time.

    workers: defaults to one per processor. quick: compare sizes only. store: may know the blocks of files, so
    that the wrong ones can be named. Raises NotFoundError if there is no
    folder.
    """
    if not is_directory(path):
        raise no_directory(path)
    wanted = {file.path: file for file in expected}
    found = _spelt_as_wanted(path, set(_files(path, wanted)), wanted)
    here = [file for name, file in sorted(wanted.items()) if name in found]
    progress = progress or Progress()
    sizes = [file.size for file in here if file.size is not None]
    progress.plan(len(here), sum(sizes) if len(sizes) == len(here) else None)
    check = partial(_check, path, quick=quick, store=store, progress=progress)
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


def _files(folder: Path, wanted: Collection[str]) -> Iterator[str]:
    """Paths of the files in a folder, with forward slashes; our own bookkeeping and dangling links are
    none."""
    for path in files_below(folder, wanted):
        if not is_ours(path) and os.path.exists(folder / path):  # noqa: PTH110 (what cannot be seen is missing)
            yield path


def _spelt_as_wanted(folder: Path, found: set[str], wanted: Collection[str]) -> set[str]:
    """What was found, by the names that were asked for: a disk for which case does not count may list a file
    otherwise."""
    respelt = {folded(path): path for path in set(wanted) - found if (folder / path).is_file()}
    return {respelt.get(folded(path), path) if path not in wanted else path for path in found}


def _check(
    folder: Path, file: LockedFile, *, quick: bool, store: Store | None, progress: Progress
) -> tuple[int, str | None]:
    """The size, and what is wrong, in words."""
    path = folder / file.path
    try:
        size = path.stat().st_size
        if file.size not in (None, size):
            return size, f"expected {file.size:,} bytes, found {size:,}"
        if quick:
            return size, None
        wanted = Wanted.of(file)
        progress.start(file.path, size)
        try:
            digest = digest_file(path, wanted, partial(progress.advance, file.path))
        finally:
            progress.finish(file.path)
        wrong = digest.mismatch()
        if wrong is not None and store is not None:
            wrong += _where(path, size, read_blocks(store, file.sha256))
    except OSError as error:
        return 0, f"cannot be read: {error.strerror}"
    return size, wrong if wanted.has_digest else "no digest of it is known"


def _where(path: Path, size: int, known: Sequence[str]) -> str:
    """Which blocks of a wrong file are wrong, where they are known; the first with its digests."""
    wrong = wrong_blocks(path, size, known)
    if not wrong:
        return ""
    first, (expected, found) = next(iter(wrong.items()))
    named = ", ".join(map(str, wrong))
    return (
        f"; block {named} of {len(known)} ({BLOCK:,} bytes each): "
        f"block {first} expected blake3 {expected}, found {found}"
    )
