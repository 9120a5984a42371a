"""Checks every folder that a name stands for, and repairs downloads where that is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from internlm_zoo.errors import UnsupportedError
from internlm_zoo.files import File
from internlm_zoo.integrity.folder import is_converted, verify_converted, verify_folder
from internlm_zoo.integrity.report import UNREAD, VerifyReport, unread
from internlm_zoo.progress import Progress
from internlm_zoo.registry import load_registry
from internlm_zoo.registry.quoted import QuotedFact, quoted_facts
from internlm_zoo.settings import Settings
from internlm_zoo.store.layout import Store
from internlm_zoo.store.locate import downloads_of, expected_files, lock_or_none
from internlm_zoo.store.record import read_record


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
    folders, progress = downloads_of(name_or_dir, settings), progress or Progress()
    lock, reports = lock_or_none(settings, progress.note), []
    for folder in folders:
        try:
            record = read_record(folder)
            conversion = record is None and is_converted(folder)
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
            store = Store(settings.home)
            report = verify_folder(folder, expected, workers, quick=quick, store=store, progress=progress)
            report = _repaired(report, expected, settings, progress) if repair else report
            report = replace(report, model=record.model if record else None)
            report = report if quick else replace(report, quoted=_quoted(report, expected, settings))
        reports.append(report)
    return reports


def _refuse_repair(report: VerifyReport, repair: bool) -> None:
    if repair and not report.ok:
        what = "a conversion is not repaired, because nobody but its source has these files"
        raise UnsupportedError(what, report.path, "convert it again with `force=True`")


def _quoted(report: VerifyReport, expected: Iterable[File], settings: Settings) -> tuple[QuotedFact, ...]:
    record = read_record(report.path)
    found = record and load_registry(settings).listing(record.release.hub, record.release.repo)
    if not found:
        return ()
    bad = {*report.missing, *(file.path for file in report.wrong)}
    return quoted_facts(found[1].quoted_files, [file for file in expected if file.path not in bad])


def _repaired(
    report: VerifyReport, expected: Iterable[File], settings: Settings, progress: Progress | None
) -> VerifyReport:
    from internlm_zoo.downloads.repair import repair

    damaged = {*report.missing, *(file.path for file in report.wrong)}
    if not damaged:
        return report
    files = [file for file in expected if file.path in damaged]
    return replace(report, wrong=(), missing=(), repaired=repair(report.path, files, settings, progress))
