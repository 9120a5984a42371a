"""Gets one file from whichever of its endpoints deliver, over one connection or several.

Each connection brings one stretch of the file at a time, from one endpoint. An endpoint that stalls, lies,
slows down or dies is left at the byte where it stood, and the next goes on there. A finished file that is
wrong is repaired block by block (block_repair.py), and the wrong bytes are attributed to the endpoint that
sent them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from internlm_zoo.errors import IntegrityError
from internlm_zoo.files import File
from internlm_zoo.progress import Progress
from internlm_zoo.sources.base import Location
from internlm_zoo.transfer.block_repair import repair_blocks
from internlm_zoo.transfer.blocks import Claim
from internlm_zoo.transfer.body import Body, Throughput
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.content_range import check_room
from internlm_zoo.transfer.failures import (
    Recovery,
    TransferFailure,
    changed,
    host,
    throttled,
    timed_out,
    violation,
)
from internlm_zoo.transfer.partial import Partial, WrongBlock
from internlm_zoo.transfer.scheduler import EndpointState, combined_error, is_outpaced, next_endpoint
from internlm_zoo.transfer.values import Endpoint, Fetched, SourceStatistics
from internlm_zoo.transfer.work_sharing import Stopped, WorkSharing

_TICK = 0.25
# Seconds over which the throughput of a connection is measured.
_THROUGHPUT_SECONDS = 2.0
# Bytes per second. A connection that brings as many leaves little to gain: hashing and writing are the limit.
_FAST = 150e6


def transfer(
    wanted: File,
    origins: Sequence[Endpoint],
    folder: Path,
    key: str,
    *,
    client: Client,
    stop: threading.Event,
    progress: Progress,
    work_sharing: WorkSharing | None = None,
    known: Sequence[str] = (),
) -> Fetched:
    """Bring the file into `folder` and check it; the caller gives it its final name, and is an Owner there
    until then.

    folder, key: where the partial file lives and what names its content across runs. work_sharing: who may
    help. known: the BLAKE3 of the file's blocks, if it was here and verified once. Raises IntegrityError,
    NotFoundError, AccessError or NetworkError when no endpoint delivers, naming each; NoSpaceError; Stopped.
    What arrived stays for the next run."""
    with Partial(folder, key, wanted, known) as partial:
        progress.start(wanted.path, wanted.size, partial.here)
        if partial.note:
            progress.note(f"{wanted.path}: {partial.note}")
        try:
            endpoints = [
                EndpointState(endpoint, slow=endpoint.name in client.slow_sources) for endpoint in origins
            ]
            run = Run(partial, endpoints, client, stop, progress)
            with work_sharing.working_on(run) if work_sharing is not None else nullcontext():
                return run.run()
        finally:
            progress.finish(wanted.path)


class Run:
    """One file under way. Its owner calls `run`, anybody else `take_part`."""

    def __init__(
        self,
        partial: Partial,
        endpoints: Sequence[EndpointState],
        client: Client,
        stop: threading.Event,
        progress: Progress,
    ) -> None:
        self.partial = partial
        self.endpoints = endpoints
        self.client = client
        self.stop = stop
        self.notes: list[str] = []
        self._progress = progress
        self._failed: BaseException | None = None
        self._over = False
        self._shown = self._had = partial.here
        self._began = time.monotonic()

    @property
    def path(self) -> str:
        return self.partial.wanted.path

    def run(self) -> Fetched:
        resumed = self.partial.resumed
        try:
            while True:
                self._fetch()
                wrong = self.partial.mismatch(self.check)
                self._show()
                if self.partial.complete and wrong is None:
                    return self._finish(min(resumed, self.partial.resumed))
                if wrong is not None:
                    repair_blocks(self, wrong)
        finally:
            self._over = True
            self._wait_for_others()

    def take_part(self) -> bool:
        """Bring one stretch; False if there is none to bring, or nobody to bring it from now."""
        if not self.partial.wanted.identified or self._over or self._is_fast():
            return False
        with self.partial.changed:
            state = next_endpoint(self.endpoints, spread=True)
            if state is None or state.whole or state.ready_at > time.monotonic():
                return False
            claim = self.partial.blocks.claim() or self.partial.blocks.share()
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
        self.partial.save()

    def _is_fast(self) -> bool:
        """Whether more connections would bring nothing; nobody knows in the first moment."""
        seconds = time.monotonic() - self._began
        came = self.partial.here - self._had
        return seconds < _TICK or came > _FAST * seconds * sum(c.connections for c in self.endpoints)

    def say(self, note: str) -> None:
        self.notes.append(note)
        self._progress.note(note)

    def check(self) -> None:
        """Raises Stopped once nobody wants the file any more."""
        if self.stop.is_set() or self._over:
            raise Stopped

    def _finish(self, resumed: int) -> Fetched:
        statistics = {c.name: c.statistics for c in self.endpoints if c.statistics != SourceStatistics()}
        size = self.partial.here
        return Fetched(
            path=self.partial.keep(),
            size=size,
            sha256=self.partial.sha256,
            blocks=self.partial.digests,
            sources=self.partial.sources,
            statistics=statistics,
            resumed=resumed,
            notes=tuple(self.notes),
        )

    def _fetch(self) -> None:
        """Until every byte is here."""
        self.partial.follow()
        while not self.partial.complete:
            self.check()
            if self._failed is not None:
                raise self._failed
            with self.partial.changed:
                claim = self._claim()
                if claim is None:
                    self.partial.changed.wait(_TICK)
                    continue
            self._attempt(self._next(claim), claim)

    def _claim(self) -> Claim | None:
        """Without a digest, parts from two answers could not be told to be of one file."""
        blocks = self.partial.blocks
        return blocks.claim(whole=not self.partial.wanted.identified) or blocks.share()

    def _next(self, claim: Claim) -> EndpointState:
        """Whoever may be asked soonest for it, when it may be asked."""
        try:
            while True:
                with self.partial.changed:
                    chosen = next_endpoint(self.endpoints, spread=False)
                    if chosen is None:
                        raise combined_error(self.path, self.endpoints)
                    wait = chosen.ready_at - time.monotonic()
                    if wait <= 0:
                        chosen.connections += 1
                        return chosen
                if self.stop.wait(wait):
                    raise Stopped
        except BaseException:
            with self.partial.changed:
                self.partial.blocks.give_back(claim)
            raise

    def _attempt(self, state: EndpointState, claim: Claim) -> None:
        began, location = time.monotonic(), state.location
        try:
            location = state.locate()
            self._stream(state, claim, location)
        except TransferFailure as failure:
            self._record_failure(state, failure, claim, location, began)
        finally:
            with self.partial.changed:
                state.connections -= 1
                state.statistics += SourceStatistics(seconds=time.monotonic() - began)
                self.partial.blocks.give_back(claim)
                self.partial.changed.notify_all()

    def _stream(self, state: EndpointState, claim: Claim, location: Location) -> None:
        partial = self.partial
        server = f"{state.name} {host(location.url)}"
        end = None if claim.end == partial.wanted.size else claim.end
        with self.client.open(location, claim.position, partial.validator(server), end) as body:
            body.begin(partial.wanted, again=state.suspect_answers > 0)
            self._check_answer(state, claim, body, server)
            self._receive(state, claim, body)

    def _check_answer(self, state: EndpointState, claim: Claim, body: Body, server: str) -> None:
        """What is to be known of an answer before its bytes are taken."""
        partial = self.partial
        if partial.wanted.size is None and body.total is not None:
            check_room(body.url, partial.path, self.path, body.total - partial.here)
        if body.start < claim.position:
            self._take_whole(state, claim)
        elif claim.position and not partial.wanted.identified and not partial.validator(server):
            raise changed(body.url, "does not say whether the file is still the same")
        partial.remember(server, body.validator)
        if body.end is not None and claim.end is not None and body.end > claim.end:
            with partial.changed:
                partial.blocks.extend(claim)

    def _take_whole(self, state: EndpointState, claim: Claim) -> None:
        """The whole file comes, not the part of it that was asked for."""
        state.whole = True
        if self.partial.blocks.claims > 1:
            raise TransferFailure(IntegrityError(f"{state.name} serves no parts of files"), Recovery.RETRY)
        self.say(f"{state.name} sent {self.path} from its start again")
        self._start_over()
        with self.partial.changed:
            self.partial.blocks.claim_all(claim)

    def _receive(self, state: EndpointState, claim: Claim, body: Body) -> None:
        offset, throughput = body.start, Throughput(_THROUGHPUT_SECONDS)
        for chunk in body.chunks(self.partial.wanted, self.client.retry_policy):
            self.check()
            if self.partial.wanted.size is None and body.total is not None:
                self.partial.size_is(body.total)  # now that it has been looked at
            self._write(state, claim, body, offset, chunk)
            offset += len(chunk)
            if claim.done and body.end != offset:
                return
            if (rate := throughput.add(len(chunk))) is not None:
                self._compare_throughput(state, rate, body)
        if self.partial.wanted.size is None:
            self.partial.size_is(claim.position)
        elif offset == body.start and not claim.done:
            raise timed_out(body.url, "the answer is empty")

    def _write(self, state: EndpointState, claim: Claim, body: Body, offset: int, chunk: bytes) -> None:
        with self.partial.changed:
            state.delivered(len(chunk))
            try:
                self.partial.write(claim, offset, chunk, state.name)
            except WrongBlock as error:
                raise violation(body.url, f"sends a wrong {self.path}: {error}") from error
            finally:
                self._show(state.name)

    def _compare_throughput(self, state: EndpointState, rate: float, body: Body) -> None:
        state.rate = rate
        if not self.client.limited and is_outpaced(state, self.endpoints, self.client.retry_policy):
            raise throttled(body.url, rate)

    def _show(self, source: str | None = None) -> None:
        """Tell how far it is; not always further, because blocks can turn out to be wrong."""
        with self.partial.changed:
            amount, self._shown = self.partial.here - self._shown, self.partial.here
        if amount:
            self._progress.advance(self.path, amount, source)

    def _record_failure(
        self,
        state: EndpointState,
        failure: TransferFailure,
        claim: Claim,
        location: Location | None,
        began: float,
    ) -> None:
        """Note it, and what follows from it for the endpoint and the file."""
        where = f"at byte {claim.position:,} of {self.path}"
        if not failure.is_usual:
            self.say(f"{state.name}: {failure.error.what}, {where}")
        if failure.recovery is Recovery.RETRY and time.monotonic() - began >= self.client.retry_policy.stall:
            self.client.slow_sources.add(state.name)
        with self.partial.changed:
            state.record_failure(failure, location, began, self.client.retry_policy)
        if failure.recovery is Recovery.RESTART:
            self._start_over()

    def _start_over(self) -> None:
        self.partial.reset()
        self._show()

    def _wait_for_others(self) -> None:
        """Their stretches are of a file that is about to be closed."""
        with self.partial.changed:
            while any(state.connections for state in self.endpoints):
                self.partial.changed.wait(_TICK)
