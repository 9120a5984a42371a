"""One thing that is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from converters.errors import ZooError


@dataclass(frozen=True)
class Finding:
    """what: a sentence. where: file, tensor or field. fix: what to do about it, where there is an answer."""

    what: str
    where: str | None = None
    fix: str | None = None


def finding(error: ZooError) -> Finding:
    return Finding(error.what, error.where, error.fix)
