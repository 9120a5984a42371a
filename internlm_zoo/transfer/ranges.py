"""Stretches of one remote file: from any byte to any other, resumed where a connection died.

The retries are those of a download (failures.py says what each failure calls for), but with one endpoint, and
with nothing to start over: bytes that were handed out cannot be taken back, so a file that changes is an
error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from internlm_zoo.errors import IntegrityError, NetworkError, ZooError
from internlm_zoo.files import File
from internlm_zoo.net.addresses import host_of
from internlm_zoo.net.retry_policy import Backoff
from internlm_zoo.net.statuses import Recovery
from internlm_zoo.sources.base import Location
from internlm_zoo.transfer.blocks import BLOCK
from internlm_zoo.transfer.body import Body
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.failures import TransferFailure, changed, timed_out, violation
from internlm_zoo.transfer.values import Endpoint, LocatedEndpoint


class Ranges:
    """The bytes of one file at one endpoint; thread-safe. name: what errors call it."""

    def __init__(self, name: str, wanted: File, endpoint: Endpoint, client: Client) -> None:
        self.name = name
        self._wanted = wanted
        self._endpoint = LocatedEndpoint(endpoint)
        self._client = client
        self._lock = threading.Lock()
        self._validators: dict[str, str] = {}

    @property
    def size(self) -> int:
        """As it was listed, else as the endpoint says at the first byte. Raises what `chunks` raises."""
        if self._wanted.size is None:
            for _ in self.chunks(0, 1):
                pass
        assert self._wanted.size is not None
        return self._wanted.size

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes start..end as they arrive; closing the iterator gives the connection up.

        Raises IntegrityError if the endpoint breaks the protocol or the file has changed, NetworkError,
        NotFoundError or AccessError if it does not deliver.
        """
        backoff = Backoff()
        while start < end and self._wanted.size != 0:  # of nothing there is no range to ask for
            location = self._locate()
            try:
                for chunk in self._stretch(location, start, end):
                    start += len(chunk)
                    backoff.delivered(len(chunk), BLOCK)
                    yield chunk
            except TransferFailure as failure:
                self._recover(failure, location, backoff)

    def _stretch(self, location: Location, start: int, end: int) -> Iterator[bytes]:
        """What one answer gives of it."""
        server = host_of(location.url)
        with self._client.open(location, start, self._validators.get(server), end) as body:
            body.begin(self._wanted)
            self._check(body, start, server)
            for chunk in body.chunks(self._wanted, self._client.retry_policy):
                self._delivers(location)
                part = chunk[: end - start]
                start += len(part)
                yield part
                if start == end and body.end != end:
                    return
        if start == end or body.total == 0:
            return
        raise timed_out(location.url, "the answer is too short")

    def _locate(self) -> Location:
        with self._lock:
            try:
                return self._endpoint.locate()
            except TransferFailure as failure:
                raise self._named(failure) from failure

    def _delivers(self, location: Location) -> None:
        with self._lock:
            if location is self._endpoint.location:
                self._endpoint.fresh = False

    def _forget(self, location: Location) -> bool:
        with self._lock:
            return self._endpoint.forget(location)

    def _check(self, body: Body, start: int, server: str) -> None:
        """That it is the same file as before, and the part of it that was asked for."""
        with self._lock:
            known = self._validators.setdefault(server, body.validator) if body.validator else None
            if known != body.validator:
                raise changed(body.url, "has another version of the file than before (its ETag changed)")
            if body.start != start:
                what = "does not serve parts of files, so they have to be downloaded whole"
                raise violation(body.url, what)
            if self._wanted.size is None:
                if body.total is None:
                    raise violation(body.url, f"does not say how long {self._wanted.path} is")
                self._wanted = replace(self._wanted, size=body.total)

    def _recover(self, failure: TransferFailure, location: Location, backoff: Backoff) -> None:
        """Prepare another attempt, or raise why there is none."""
        pause = backoff.pause(failure.recovery, failure.retry_after, self._client.retry_policy)
        if failure.recovery is Recovery.RESTART:
            what = f"{failure.error.what}; what was read before does not count any more"
            raise IntegrityError(what, self.name, "run it again") from failure
        relocates = failure.recovery is Recovery.RELOCATE
        if pause is None or (relocates and not self._forget(location)):
            raise self._named(failure) from failure
        if not relocates:
            time.sleep(pause)

    def _named(self, failure: TransferFailure) -> ZooError:
        """Whoever waited in vain may go on later from what is there, so that is no IntegrityError."""
        error = failure.error
        if failure.recovery is Recovery.RETRY:
            return NetworkError(error.what, self.name, "run it again: it goes on where it stopped")
        return error if error.where else type(error)(error.what, self.name, error.fix)
