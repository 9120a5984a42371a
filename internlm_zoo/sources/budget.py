"""How much of a listing is taken that comes in several answers, whatever each of them keeps within."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from internlm_zoo.errors import ListingError, NotFoundError
from internlm_zoo.net.addresses import host_of
from internlm_zoo.sources.hub_client import LARGEST, LONGEST_URL, HubClient, Response

FOLDERS = 256
"""Requests for one listing, where a hub lists by the folder: a repository of more is no release."""
ROUNDS = 5
"""Times the seconds for one answer that all of them may take."""

T = TypeVar("T")


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

    def walk(self, list_folder: Callable[[str], tuple[T, Iterable[str]]]) -> Iterator[tuple[str, T]]:
        """Every folder, the root ("") first, and what `list_folder` returns of it beside the folders in it,
        each by its path from the root. Raises NotFoundError for too many."""
        waiting, seen = [""], {""}
        while waiting:
            folder = waiting.pop()
            listed, deeper = list_folder(folder)
            yield folder, listed
            fresh = set(deeper) - seen
            seen |= fresh
            self.expect(len(seen))
            waiting += sorted(fresh)

    def expect(self, folders: int) -> None:
        """Raises NotFoundError where there are too many, as soon as that is known."""
        if folders > FOLDERS:
            what = f"{self.client.hub} lists {self.repo} in more than {FOLDERS} folders, so it is no release"
            raise NotFoundError(what, host_of(self.client.endpoint))

    def _exceeded(self, why: str) -> ListingError:
        error = self.client.malformed(why)
        error.permanent = True
        return error
