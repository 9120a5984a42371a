"""One thing that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from converters.containers.files import FAULTS, attempt
from converters.errors import UsageError, ZooError

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """what: a sentence. where: file, tensor or field. fix: what to do about it, where there is an answer."""

    what: str
    where: str | None = None
    fix: str | None = None


def finding(error: ZooError) -> Finding:
    return Finding(error.what, error.where, error.fix)


def noting(findings: list[Finding], work: Callable[[], T]) -> T | None:
    """What `work` returns; None if something is wrong with the checkpoint, which is noted.

    Raises the other errors of `work`, such as those of a network.
    """
    return attempt(lambda error: findings.append(finding(error)), work, (*FAULTS, UsageError))
