"""A directory that a conversion made, held against its conversion.json."""

from __future__ import annotations

from pathlib import Path

from converters.containers.names import RECORD
from converters.formats.access import reading
from converters.record import record
from internlm_zoo.integrity.report import VerifyReport, WrongFile
from internlm_zoo.progress import Progress


def verify_converted(
    path: Path, workers: int | None = None, *, quick: bool = False, progress: Progress | None = None
) -> VerifyReport:
    """Sizes of all files, digests of the small ones, and the digest of every logical tensor.

    quick: sizes only. Raises NotFoundError if the conversion left no digests of tensors, IntegrityError for a
    damaged record.
    """
    found = record.check(path, quick=quick, workers=workers, progress=progress)
    wrong = tuple(WrongFile(name, what) for name, what in found.wrong)
    return VerifyReport(
        path, found.checked, found.size, quick, wrong, found.missing, extra=(), added=found.added
    )


def is_converted(path: Path) -> bool:
    """Raises AccessError if that cannot be seen."""
    with reading(path):
        return (path / RECORD).is_file()
