"""What a smoke test says: one check per thing looked at, one sentence for all of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from internlm_zoo.store.smoke_record import Outcome


@dataclass(frozen=True)
class Check:
    """One thing looked at. sentence: what was found, for a person; on failure also what that means. cause:
    the mistake that was made, where one explains the failure. judged: False where nothing could be said of
    it, and why is in the sentence. seconds: that it took, with what it waited for."""

    name: str
    ok: bool
    sentence: str
    cause: str | None = None
    judged: bool = True
    seconds: float = 0.0

    @property
    def outcome(self) -> Outcome:
        """In a word."""
        return ("passed" if self.judged else "unjudged") if self.ok else "failed"


@dataclass(frozen=True)
class SmokeResult:
    """model: registry name or directory name. sentence: the first failure, and its cause if it is known; else
    what could not be judged, else all that held. judged: whether every check could say something."""

    model: str
    ok: bool
    sentence: str
    checks: tuple[Check, ...]
    judged: bool = True

    @property
    def outcome(self) -> Outcome:
        """In a word, strict or not."""
        if not all(check.ok for check in self.checks):
            return "failed"
        return "passed" if self.judged else "unjudged"


def conclude(model: str, checks: Iterable[Check], *, strict: bool = False) -> SmokeResult:
    """The checks, which are timed as they come, as one result. strict: what cannot be judged has failed."""
    checks = tuple(_timed(checks))
    failed = [check.sentence for check in checks if not check.ok]
    causes = [check.cause for check in checks if check.cause]
    unjudged = [check.sentence for check in checks if not check.judged]
    said = [*failed[:1], *causes[:1]] if failed else unjudged or [check.sentence for check in checks]
    ok = not failed and not (strict and unjudged)
    return SmokeResult(model, ok, "; ".join(said), checks, not unjudged)


def _timed(checks: Iterable[Check]) -> Iterator[Check]:
    begun = time.perf_counter()
    for check in checks:
        done = time.perf_counter()
        yield replace(check, seconds=round(done - begun, 3))
        begun = done
