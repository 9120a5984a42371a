"""How long a hub may take, when it is asked again and when it is given up: one arithmetic for all that is
asked twice, listings and bytes alike."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from internlm_zoo.net.statuses import Recovery
from internlm_zoo.settings import Settings

_TIMEOUT, _TRIES = "INTERNLM_ZOO_TIMEOUT", "INTERNLM_ZOO_TRIES"


@dataclass(frozen=True)
class RetryPolicy:
    """When to give up on what. Seconds, except: tries, failures in a row of one endpoint without a block of
    progress between them; slowest, bytes per second below which a connection counts as stalled; modest, the
    same below which another endpoint is tried. stall: silence of a connection. longest_wait bounds our own
    back-off, longest_asked what a server may ask for before it is left."""

    connect: float = 10.0
    stall: float = 20.0
    slowest: float = 1024.0
    modest: float = 262_144.0
    tries: int = 5
    first_wait: float = 0.5
    longest_wait: float = 60.0
    longest_asked: float = 600.0

    @property
    def answer(self) -> float:
        """Seconds to a whole listing, or to a file's first byte, redirects and all."""
        return 2 * self.stall + 2.0

    def pause(self, failures: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
        """Seconds after so many failures in a row: exponential, with jitter, so that many clients do not come
        back in step."""
        return min(self.first_wait * 2.0 ** (failures - 1), self.longest_wait) * uniform(0.5, 1.0)

    @classmethod
    def of(cls, settings: Settings) -> RetryPolicy:
        """As the variables say. Raises UsageError."""
        usual = cls()
        stall = settings.number(_TIMEOUT) or usual.stall
        tries = settings.number(_TRIES) or usual.tries
        return cls(connect=min(usual.connect, stall), stall=stall, tries=max(1, int(tries)))


@dataclass
class Backoff:
    """failures: of one endpoint in a row, without so much progress between them as ends it. suspect: how
    often it sent something that may not have been meant."""

    failures: int = 0
    suspect: int = 0
    _since: int = 0

    def delivered(self, amount: int, enough: int) -> None:
        """Bytes came; `enough` of them end the row."""
        self._since += amount
        if self._since >= enough:
            self.failures = self._since = 0

    def pause(
        self, recovery: Recovery, asked: float, retry_policy: RetryPolicy, *, counts: bool = True
    ) -> float | None:
        """Seconds from a failure until another attempt makes sense; None if none does. asked: by the server.
        counts: it is not one failure with another that was counted."""
        self.failures += counts
        self.suspect += recovery is Recovery.RETRY_ONCE
        self._since = 0
        is_final = recovery is Recovery.GIVE_UP or (recovery is Recovery.RETRY_ONCE and self.suspect > 1)
        if is_final or self.failures >= retry_policy.tries or asked > retry_policy.longest_asked:
            return None
        return max(asked, retry_policy.pause(self.failures))
