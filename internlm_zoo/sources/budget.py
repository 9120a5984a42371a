"""How much of a listing is taken that comes in several answers, whatever each of them keeps within."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from internlm_zoo.errors import ListingError, NotFoundError
from internlm_zoo.net.addresses import host_of
from internlm_zoo.sources.hub_client import LARGEST, LONGEST_URL, HubClient, Response

FOLDERS = 256
"""Requests for one listing, where a hub lists by the folder: a repository of more is no release."""
ROUNDS = 5
"""Times the seconds for one answer that all of them may take."""


@dataclass
class ListingBudget:
    """What one listing has taken so far. repo: whose it is. size: in bytes."""

    client: HubClient
    repo: str
    began: float = field(default_factory=time.monotonic)
    requests: int = 0
    size: int = 0

    def get(self, url: str) -> Response:
        """As `HubClient.get`. Raises NotFoundError for too many folders, ListingError for too much else."""
        self.requests += 1
        self.expect(self.requests)
        seconds = ROUNDS * self.client.retry_policy.answer
        if len(url) > LONGEST_URL:
            raise self._exceeded(f"a folder's address has more than {LONGEST_URL:,} characters")
        if time.monotonic() - self.began > seconds:
            raise self._exceeded(f"it did not end within {seconds:.0f} s")
        answer = self.client.get(url)
        self.size += len(answer.data)
        if self.size > LARGEST:
            raise self._exceeded(f"it has more than {LARGEST >> 20} MiB")
        return answer

    def expect(self, folders: int) -> None:
        """Raises NotFoundError where there are too many, as soon as that is known."""
        if folders > FOLDERS:
            what = f"{self.client.hub} lists {self.repo} in more than {FOLDERS} folders, so it is no release"
            raise NotFoundError(what, host_of(self.client.endpoint))

    def _exceeded(self, why: str) -> ListingError:
        error = self.client.malformed(why)
        error.permanent = True
        return error
