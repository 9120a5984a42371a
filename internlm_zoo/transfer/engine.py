"""Gets one file from whichever of its origins deliver, over one connection or several.

Each connection brings one stretch of the file at a time, from one origin. An origin that stalls, lies, slows
down or dies is left at the byte where it stood, and the next goes on there. A finished file that is wrong is
mended block by block (block_repair.py), so that the guilty origin can be named.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from internlm_zoo.errors import IntegrityError
from internlm_zoo.progress import Progress
from internlm_zoo.sources.base import Location
from internlm_zoo.transfer.block_repair import mend
from internlm_zoo.transfer.blocks import Claim
from internlm_zoo.transfer.body import Body, Throughput
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.content_range import check_room
from internlm_zoo.transfer.failures import Recovery, TransferFailure, changed, host, lie, silent, throttled
from internlm_zoo.transfer.partial import Partial, WrongBlock
from internlm_zoo.transfer.scheduler import EndpointState, is_outpaced, next_of, verdict
from internlm_zoo.transfer.values import Endpoint, Fetched, SourceStatistics, Wanted
from internlm_zoo.transfer.work_sharing import Stopped, WorkSharing

_TICK = 0.25
# Seconds over which the pace of a connection is taken.
_PACE = 2.0
# Bytes per second. A connection that brings as many leaves little to gain: hashing and writing are the limit.
_FAST = 150e6


def transfer(
    wanted: Wanted,
    origins: Sequence[Endpoint],
    folder: Path,
    key: str,
    *,
    client: Client,
    stop: threading.Event,
    progress: Progress,
    crew: WorkSharing | None = None,
    known: Sequence[str] = (),
) -> Fetched:
    """Bring the file into `folder` and check it; the caller gives it its final name, and is an Owner there
    until then.

    folder, key: where the partial file lives and what names its content across runs. crew: who may help.
    known: the BLAKE3 of the file's blocks, if it was here and verified once. Raises IntegrityError,
    NotFoundError, AccessError or NetworkError when no origin delivers, naming each; NoSpaceError; Stopped.
    What arrived stays for the next run."""
    with Partial(folder, key, wanted, known) as partial:
        progress.start(wanted.path, wanted.size, partial.here)
        if partial.note:
            progress.note(f"{wanted.path}: {partial.note}")
        try:
            contestants = [EndpointState(origin, slow=origin.name in client.tardy) for origin in origins]
            run = Run(partial, contestants, client, stop, progress)
            with crew.at(run) if crew is not None else nullcontext():
                return run.run()
        finally:
            progress.finish(wanted.path)


class Run:
    """One file under way. Its owner calls `run`, anybody else `help`."""

    def __init__(
        self,
        partial: Partial,
        contestants: Sequence[EndpointState],
        client: Client,
        stop: threading.Event,
        progress: Progress,
    ) -> None:
        self.partial = partial
        self.contestants = contestants
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
                self._bring()
                wrong = self.partial.mismatch(self.check)
                self._show()
                if self.partial.complete and wrong is None:
                    return self._finish(min(resumed, self.partial.resumed))
                if wrong is not None:
                    mend(self, wrong)
        finally:
            self._over = True
            self._wait_for_helpers()

    def help(self) -> bool:
        """Bring one stretch; False if there is none to bring, or nobody to bring it from now."""
        if not self.partial.wanted.has_digest or self._over or self._is_fast():
            return False
        with self.partial.changed:
            contestant = next_of(self.contestants, spread=True)
            if contestant is None or contestant.whole or contestant.ready_at > time.monotonic():
                return False
            claim = self.partial.blocks.claim() or self.partial.blocks.share()
            if claim is None:
                return False
            contestant.connections += 1
        try:
            self._attempt(contestant, claim)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - its owner raises it
            self._failed = error
        return True

    def save(self) -> None:
        self.partial.save()

    def _is_fast(self) -> bool:
        """Whether more connections would not help; nobody knows in the first moment."""
        seconds = time.monotonic() - self._began
        came = self.partial.here - self._had
        return seconds < _TICK or came > _FAST * seconds * sum(c.connections for c in self.contestants)

    def say(self, note: str) -> None:
        self.notes.append(note)
        self._progress.note(note)

    def check(self) -> None:
        """Raises Stopped once nobody wants the file any more."""
        if self.stop.is_set() or self._over:
            raise Stopped

    def _finish(self, resumed: int) -> Fetched:
        services = {c.name: c.service for c in self.contestants if c.service != SourceStatistics()}
        size = self.partial.here
        return Fetched(
            path=self.partial.keep(),
            size=size,
            sha256=self.partial.sha256,
            blocks=self.partial.digests,
            authors=self.partial.authors,
            services=services,
            resumed=resumed,
            notes=tuple(self.notes),
        )

    def _bring(self) -> None:
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
        return blocks.claim(whole=not self.partial.wanted.has_digest) or blocks.share()

    def _next(self, claim: Claim) -> EndpointState:
        """Whoever may be asked soonest for it, when it may be asked."""
        try:
            while True:
                with self.partial.changed:
                    chosen = next_of(self.contestants, spread=False)
                    if chosen is None:
                        raise verdict(self.path, self.contestants)
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

    def _attempt(self, contestant: EndpointState, claim: Claim) -> None:
        began, location = time.monotonic(), contestant.location
        try:
            location = contestant.locate()
            self._stream(contestant, claim, location)
        except TransferFailure as refusal:
            self._bear(contestant, refusal, claim, location, began)
        finally:
            with self.partial.changed:
                contestant.connections -= 1
                contestant.service += SourceStatistics(seconds=time.monotonic() - began)
                self.partial.blocks.give_back(claim)
                self.partial.changed.notify_all()

    def _stream(self, contestant: EndpointState, claim: Claim, location: Location) -> None:
        partial = self.partial
        door = f"{contestant.name} {host(location.url)}"
        end = None if claim.end == partial.wanted.size else claim.end
        with self.client.open(location, claim.position, partial.validator(door), end) as body:
            body.begin(partial.wanted, again=contestant.doubts > 0)
            self._meet(contestant, claim, body, door)
            self._receive(contestant, claim, body)

    def _meet(self, contestant: EndpointState, claim: Claim, body: Body, door: str) -> None:
        """What is to be known of an answer before its bytes are taken."""
        partial = self.partial
        if partial.wanted.size is None and body.total is not None:
            check_room(body.url, partial.path, self.path, body.total - partial.here)
        if body.start < claim.position:
            self._take_whole(contestant, claim)
        elif claim.position and not partial.wanted.has_digest and not partial.validator(door):
            raise changed(body.url, "does not say whether the file is still the same")
        partial.remember(door, body.validator)
        if body.end is not None and claim.end is not None and body.end > claim.end:
            with partial.changed:
                partial.blocks.extend(claim)

    def _take_whole(self, contestant: EndpointState, claim: Claim) -> None:
        """The whole file comes, not the part of it that was asked for."""
        contestant.whole = True
        if self.partial.blocks.claims > 1:
            raise TransferFailure(
                IntegrityError(f"{contestant.name} serves no parts of files"), Recovery.WAIT
            )
        self.say(f"{contestant.name} sent {self.path} from its start again")
        self._start_over()
        with self.partial.changed:
            self.partial.blocks.claim_all(claim)

    def _receive(self, contestant: EndpointState, claim: Claim, body: Body) -> None:
        offset, pace = body.start, Throughput(_PACE)
        for chunk in body.chunks(self.partial.wanted, self.client.patience):
            self.check()
            if self.partial.wanted.size is None and body.total is not None:
                self.partial.size_is(body.total)  # now that it has been looked at
            self._accept(contestant, claim, body, offset, chunk)
            offset += len(chunk)
            if claim.done and body.end != offset:
                return
            if (rate := pace.add(len(chunk))) is not None:
                self._compare_pace(contestant, rate, body)
        if self.partial.wanted.size is None:
            self.partial.size_is(claim.position)
        elif offset == body.start and not claim.done:
            raise silent(body.url, "the answer is empty")

    def _accept(self, contestant: EndpointState, claim: Claim, body: Body, offset: int, chunk: bytes) -> None:
        with self.partial.changed:
            contestant.delivered(len(chunk))
            try:
                self.partial.write(claim, offset, chunk, contestant.name)
            except WrongBlock as error:
                raise lie(body.url, f"sends a wrong {self.path}: {error}") from error
            finally:
                self._show(contestant.name)

    def _compare_pace(self, contestant: EndpointState, rate: float, body: Body) -> None:
        contestant.rate = rate
        if not self.client.limited and is_outpaced(contestant, self.contestants, self.client.patience):
            raise throttled(body.url, rate)

    def _show(self, source: str | None = None) -> None:
        """Tell how far it is; not always further, because blocks can turn out to be wrong."""
        with self.partial.changed:
            amount, self._shown = self.partial.here - self._shown, self.partial.here
        if amount:
            self._progress.advance(self.path, amount, source)

    def _bear(
        self,
        contestant: EndpointState,
        refusal: TransferFailure,
        claim: Claim,
        location: Location | None,
        began: float,
    ) -> None:
        """Take the consequences of a refusal."""
        where = f"at byte {claim.position:,} of {self.path}"
        if not refusal.is_usual:
            self.say(f"{contestant.name}: {refusal.error.what}, {where}")
        if refusal.remedy is Recovery.WAIT and time.monotonic() - began >= self.client.patience.stall:
            self.client.tardy.add(contestant.name)
        with self.partial.changed:
            contestant.bear(refusal, location, began, self.client.patience)
        if refusal.remedy is Recovery.RESTART:
            self._start_over()

    def _start_over(self) -> None:
        self.partial.reset()
        self._show()

    def _wait_for_helpers(self) -> None:
        """Their stretches are of a file that is about to be closed."""
        with self.partial.changed:
            while any(contestant.connections for contestant in self.contestants):
                self.partial.changed.wait(_TICK)
