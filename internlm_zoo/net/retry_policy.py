"""How long a hub may take, and when it is given up: one value for listings and for bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

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
