"""What a check of folders answers: values only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converters.saved import METADATA
from internlm_zoo.downloads.result import Repaired
from internlm_zoo.errors import AccessError, NotFoundError, ZooError
from internlm_zoo.registry.quoted import QuotedFact
from internlm_zoo.store.record import NAME, UNREADABLE

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
    loaded: they are not wrong. model: the name that its record has for it."""

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
    model: str | None = None

    @property
    def ok(self) -> bool:
        return not (self.wrong or self.missing or self.extra)


@dataclass(frozen=True)
class Verification:
    """folders: a report of each; what follows is of all of them."""

    folders: tuple[VerifyReport, ...]

    @property
    def ok(self) -> bool:
        return all(report.ok for report in self.folders)

    @property
    def wrong(self) -> tuple[WrongFile, ...]:
        return tuple(file for report in self.folders for file in report.wrong)

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(path for report in self.folders for path in report.missing)

    @property
    def extra(self) -> tuple[str, ...]:
        return tuple(path for report in self.folders for path in report.extra)

    @property
    def repaired(self) -> tuple[Repaired, ...]:
        return tuple(file for report in self.folders for file in report.repaired)


def unread(folder: Path, error: ZooError) -> VerifyReport:
    """Of a release of which nothing says what should be in it."""
    return VerifyReport(folder, 0, 0, False, (WrongFile(f"{METADATA}/{NAME}", error.what),), (), ())
