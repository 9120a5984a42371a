"""Hashes everything in the store, each blob once however many releases have it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from internlm_zoo.files import File
from internlm_zoo.fs.contained import real
from internlm_zoo.hashing import hash_shown
from internlm_zoo.integrity.folder import verify_folder
from internlm_zoo.integrity.report import UNREAD, VerifyReport, WrongFile, unread
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings
from internlm_zoo.store.inventory import blobs_of, inventory
from internlm_zoo.store.layout import Store
from internlm_zoo.store.locate import downloads_of, expected_files, lock_or_none
from internlm_zoo.transfer.workers import work


@dataclass(frozen=True)
class _Content:
    """What a file holds; error: why it cannot be told, in words."""

    size: int
    sha256: str | None
    error: str | None = None

    def mismatch(self, sha256: str | None) -> str | None:
        if self.error is not None:
            return self.error
        if sha256 is None:
            return "no digest of it is known"
        return None if self.sha256 == sha256 else f"expected sha256 {sha256}, found {self.sha256}"


def verify_store(
    models: Sequence[str] = (),
    workers: int | None = None,
    *,
    settings: Settings,
    progress: Progress | None = None,
) -> list[VerifyReport]:
    """Every release in the store, and the blobs of none; or the releases of some models only. Of a release
    whose record tells nothing that is the report.

    Raises NotFoundError for a model that is not in the store.
    """
    store, progress = Store(settings.home), progress or Progress()
    lock = lock_or_none(settings, progress.note)
    named = [path for model in models for path in downloads_of(model, settings)]
    expected, lost = {}, []
    for folder in named if models else [one.path for one in inventory(store).all]:
        try:
            expected[folder] = expected_files(folder, lock)
        except UNREAD as error:
            lost.append(unread(folder, error))
    used = {_place(folder, file) for folder, files in expected.items() for file in files}
    used = {place for place in used if place.is_file()}
    loose = set() if models else {real(blob) for blob in blobs_of(store)} - used
    contents = _contents(used | loose, workers, progress)
    reports = [*lost, *(_report(folder, files, contents) for folder, files in expected.items())]
    return [*reports, _loose(store, sorted(loose), contents)] if loose else reports


def _place(folder: Path, file: File) -> Path:
    return real(folder / file.path)


def _contents(places: Iterable[Path], workers: int | None, progress: Progress) -> Mapping[Path, _Content]:
    ordered = sorted(places)
    progress.plan(len(ordered), sum(place.stat().st_size for place in ordered))
    jobs = [partial(_content, place, progress) for place in ordered]
    found = work(jobs, workers or os.cpu_count() or 1, threading.Event())
    return dict(zip(ordered, found, strict=True))


def _content(place: Path, progress: Progress) -> _Content:
    try:
        return _Content(place.stat().st_size, hash_shown(place, place.name, progress).sha256)
    except OSError as error:
        return _Content(0, None, f"cannot be read: {error.strerror}")


def _report(folder: Path, expected: Sequence[File], contents: Mapping[Path, _Content]) -> VerifyReport:
    sizes = verify_folder(folder, expected, quick=True)
    bad = {file.path for file in sizes.wrong} | set(sizes.missing)
    rest = (file for file in expected if file.path not in bad)
    findings = ((file.path, contents[_place(folder, file)].mismatch(file.sha256)) for file in rest)
    wrong = (WrongFile(path, what) for path, what in findings if what)
    return replace(sizes, quick=False, wrong=(*sizes.wrong, *wrong))


def _loose(store: Store, blobs: Sequence[Path], contents: Mapping[Path, _Content]) -> VerifyReport:
    findings = ((blob.name, contents[blob].mismatch(blob.name)) for blob in blobs)
    return VerifyReport(
        path=store.blobs,
        checked=len(blobs),
        size=sum(contents[blob].size for blob in blobs),
        quick=False,
        wrong=tuple(WrongFile(name, what) for name, what in findings if what),
        missing=(),
        extra=(),
    )
