"""Gets one file from whichever of its endpoints deliver, over one connection or several.

Each connection brings one stretch of the file at a time, from one endpoint. An endpoint that stalls, breaks
the protocol, slows down or dies is left at the byte where it stood, and the next goes on there. A finished
file that is wrong is repaired block by block (block_repair.py), and the wrong bytes are attributed to the
endpoint that sent them."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext

from internlm_zoo.net.statuses import Recovery
from internlm_zoo.progress import Progress
from internlm_zoo.sources.base import Location
from internlm_zoo.transfer.block_repair import repair_blocks
from internlm_zoo.transfer.blocks import Claim
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.failures import TransferFailure
from internlm_zoo.transfer.partial import Partial
from internlm_zoo.transfer.run import Run
from internlm_zoo.transfer.scheduler import EndpointState, combined_error, next_endpoint
from internlm_zoo.transfer.stream import stream
from internlm_zoo.transfer.values import Fetched, SourceStatistics, TransferRequest
from internlm_zoo.transfer.workers import Stopped, WorkSharing

_TICK = 0.25
# Bytes per second. A connection that brings as many leaves little to gain: hashing and writing are the limit.
_FAST = 150e6


def transfer(
    request: TransferRequest,
    *,
    client: Client,
    stop: threading.Event,
    progress: Progress,
    work_sharing: WorkSharing | None = None,
) -> Fetched:
    """Bring the file into the folder and check it; the caller gives it its final name, and is an Owner there
    until then.

    work_sharing: who may take part. Raises IntegrityError, NotFoundError, AccessError or NetworkError when no
    endpoint delivers, naming each; NoSpaceError; Stopped. What arrived stays for the next run."""
    wanted = request.wanted
    with Partial(request.folder, request.key, wanted, request.block_digests, request.block_size) as partial:
        progress.start(wanted.path, wanted.size, partial.blocks.here)
        if partial.note:
            progress.note(f"{wanted.path}: {partial.note}")
        try:
            endpoints = [
                EndpointState(one, slow=one.name in client.slow_sources) for one in request.endpoints
            ]
            engine = Engine(Run(partial, endpoints, client, stop, progress))
            with work_sharing.working_on(engine) if work_sharing is not None else nullcontext():
                return engine.run()
        finally:
            progress.finish(wanted.path)


class Engine:
    """Keeps the connections of one file at work. Its owner calls `run`, anybody else `take_part`."""

    def __init__(self, run: Run) -> None:
        self._run, self._partial, self._endpoints = run, run.partial, run.endpoints
        self._failed: BaseException | None = None
        self._had = run.partial.blocks.here
        self._began = time.monotonic()

    def run(self) -> Fetched:
        resumed = self._partial.resumed
        try:
            while True:
                self._fetch()
                wrong = self._partial.mismatch(self._run.check)
                self._run.show()
                if self._partial.blocks.complete and wrong is None:
                    return self._finish(min(resumed, self._partial.resumed))
                if wrong is not None:
                    repair_blocks(self._run, wrong)
        finally:
            self._run.over = True
            self._wait_for_others()

    def take_part(self) -> bool:
        """Bring one stretch; False if there is none to bring, or nobody to bring it from now."""
        if not self._partial.wanted.identified or self._run.over or self._is_fast():
            return False
        with self._partial.changed:
            state = next_endpoint(self._endpoints, spread=True)
            if state is None or state.whole or state.ready_at > time.monotonic():
                return False
            claim = self._partial.blocks.claim() or self._partial.blocks.share()
            if claim is None:
                return False
            state.connections += 1
        try:
            self._attempt(state, claim)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - its owner raises it
            self._failed = error
        return True

    def save(self) -> None:
        self._partial.save()

    def _is_fast(self) -> bool:
        """Whether more connections would bring nothing; nobody knows in the first moment."""
        seconds = time.monotonic() - self._began
        came = self._partial.blocks.here - self._had
        return seconds < _TICK or came > _FAST * seconds * sum(c.connections for c in self._endpoints)

    def _finish(self, resumed: int) -> Fetched:
        statistics = {c.name: c.statistics for c in self._endpoints if c.statistics != SourceStatistics()}
        size, records = self._partial.blocks.here, self._partial.records
        return Fetched(
            path=self._partial.keep(),
            size=size,
            sha256=self._partial.sha256,
            blocks=tuple(map(records.digest_of, range(records.blocks.count))),
            sources=records.sources,
            statistics=statistics,
            resumed=resumed,
            notes=tuple(self._run.notes),
        )

    def _fetch(self) -> None:
        """Until every byte is here."""
        self._partial.follow()
        while not self._partial.blocks.complete:
            self._run.check()
            if self._failed is not None:
                raise self._failed
            with self._partial.changed:
                claim = self._claim()
                if claim is None:
                    self._partial.changed.wait(_TICK)
                    continue
            self._attempt(self._next(claim), claim)

    def _claim(self) -> Claim | None:
        """Without a digest, parts from two answers could not be told to be of one file."""
        blocks = self._partial.blocks
        return blocks.claim(whole=not self._partial.wanted.identified) or blocks.share()

    def _next(self, claim: Claim) -> EndpointState:
        """Whoever may be asked soonest for it, when it may be asked."""
        try:
            while True:
                with self._partial.changed:
                    chosen = next_endpoint(self._endpoints, spread=False)
                    if chosen is None:
                        raise combined_error(self._run.path, self._endpoints)
                    wait = chosen.ready_at - time.monotonic()
                    if wait <= 0:
                        chosen.connections += 1
                        return chosen
                if self._run.stop.wait(wait):
                    raise Stopped
        except BaseException:
            with self._partial.changed:
                self._partial.blocks.give_back(claim)
            raise

    def _attempt(self, state: EndpointState, claim: Claim) -> None:
        began, location = time.monotonic(), state.location
        try:
            location = state.locate()
            stream(self._run, state, claim, location)
        except TransferFailure as failure:
            self._record_failure(state, failure, claim, location, began)
        finally:
            with self._partial.changed:
                state.connections -= 1
                state.statistics += SourceStatistics(seconds=time.monotonic() - began)
                self._partial.blocks.give_back(claim)
                self._partial.changed.notify_all()

    def _record_failure(
        self,
        state: EndpointState,
        failure: TransferFailure,
        claim: Claim,
        location: Location | None,
        began: float,
    ) -> None:
        """Note it, and what follows from it for the endpoint and the file."""
        where = f"at byte {claim.position:,} of {self._run.path}"
        if not failure.is_usual:
            self._run.say(f"{state.name}: {failure.error.what}, {where}")
        client = self._run.client
        if failure.recovery is Recovery.RETRY and time.monotonic() - began >= client.retry_policy.stall:
            client.slow_sources.add(state.name)
        with self._partial.changed:
            state.record_failure(failure, location, began, client.retry_policy)
        if failure.recovery is Recovery.RESTART:
            self._run.start_over()

    def _wait_for_others(self) -> None:
        """Their stretches are of a file that is about to be closed."""
        with self._partial.changed:
            while any(state.connections for state in self._endpoints):
                self._partial.changed.wait(_TICK)
