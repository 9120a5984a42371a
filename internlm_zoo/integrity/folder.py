"""Hashes a folder again and names every file that is not what it should be: of a download, or a conversion.

Links are followed: a release in the store is as good as the blobs it points to.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from converters.containers.names import RECORD
from converters.formats.access import is_directory, no_directory, reading
from converters.record import record
from converters.system.system_files import files_below
from internlm_zoo.files import File
from internlm_zoo.hashing import hash_shown
from internlm_zoo.integrity.report import VerifyReport, WrongFile
from internlm_zoo.progress import Progress
from internlm_zoo.sources.paths import folded
from internlm_zoo.store.block_digests import read_blocks
from internlm_zoo.store.layout import Store, is_ours
from internlm_zoo.transfer.blocks import BLOCK
from internlm_zoo.transfer.seeding import wrong_blocks
from internlm_zoo.transfer.workers import work


def verify_folder(
    path: Path,
    expected: Iterable[File],
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
    findings = zip(here, results, strict=True)
    return VerifyReport(
        path=path,
        checked=len(wanted),
        size=sum(size for size, _ in results),
        quick=quick,
        wrong=tuple(WrongFile(file.path, what) for file, (_, what) in findings if what),
        missing=tuple(sorted(wanted.keys() - found)),
        extra=tuple(sorted(found - wanted.keys())),
    )


def verify_converted(
    path: Path, workers: int | None = None, *, quick: bool = False, progress: Progress | None = None
) -> VerifyReport:
    """Hold what a conversion made against its conversion.json: sizes of all files, digests of the small ones,
    and the digest of every logical tensor.

    quick: sizes only. Raises NotFoundError if the conversion left no digests of tensors, IntegrityError for a
    damaged record.
    """
    found = record.check(path, quick=quick, workers=workers, progress=progress)
    wrong = tuple(WrongFile(name, what) for name, what in found.wrong)
    name = found.model.name if found.model else None
    return VerifyReport(
        path, found.checked, found.size, quick, wrong, found.missing, (), added=found.added, model=name
    )


def is_converted(path: Path) -> bool:
    """Raises AccessError if that cannot be seen."""
    with reading(path):
        return (path / RECORD).is_file()


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
    folder: Path, file: File, *, quick: bool, store: Store | None, progress: Progress
) -> tuple[int, str | None]:
    """The size, and what is wrong, in words."""
    path = folder / file.path
    try:
        size = path.stat().st_size
        if file.size not in (None, size):
            return size, f"expected {file.size:,} bytes, found {size:,}"
        if quick:
            return size, None
        conflict = file.digests.conflict(hash_shown(path, file.path, progress, file.algorithms))
        wrong = str(conflict) if conflict else None
        if wrong is not None and store is not None:
            wrong += _where(path, size, read_blocks(store, file.sha256))
    except OSError as error:
        return 0, f"cannot be read: {error.strerror}"
    return size, wrong if file.identified else "no digest of it is known"


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
