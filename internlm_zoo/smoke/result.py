"""What a smoke test says: one check per thing looked at, one sentence for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing looked at. sentence: what was found, for a person; on failure also what that means. cause:
    the mistake that was made, where one explains the failure."""

    name: str
    ok: bool
    sentence: str
    cause: str | None = None


@dataclass(frozen=True)
class SmokeResult:
    """model: registry name or directory name. sentence: the first failure, and its cause if it is known; or
    all that held."""

    model: str
    ok: bool
    sentence: str
    checks: tuple[Check, ...]


def conclude(model: str, checks: Iterable[Check]) -> SmokeResult:
    """The checks as one result."""
    checks = tuple(checks)
    failed = [check.sentence for check in checks if not check.ok]
    causes = [check.cause for check in checks if check.cause]
    said = [*failed[:1], *causes[:1]] if failed else [check.sentence for check in checks]
    return SmokeResult(model, not failed, "; ".join(said), checks)
