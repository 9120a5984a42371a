"""When whoever has failed may be asked again: one count, and one arithmetic, for all that is asked twice."""

from __future__ import annotations

from dataclasses import dataclass

from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.net.statuses import Recovery


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
        hopeless = recovery is Recovery.GIVE_UP or (recovery is Recovery.RETRY_ONCE and self.suspect > 1)
        if hopeless or self.failures >= retry_policy.tries or asked > retry_policy.longest_asked:
            return None
        return max(asked, retry_policy.pause(self.failures))
