"""Brings one stretch of a file from one endpoint."""

from __future__ import annotations

from internlm_zoo.errors import IntegrityError
from internlm_zoo.net.addresses import host_of
from internlm_zoo.net.statuses import Recovery
from internlm_zoo.sources.base import Location
from internlm_zoo.transfer.block_records import WrongBlock
from internlm_zoo.transfer.blocks import Claim
from internlm_zoo.transfer.body import Body, Throughput
from internlm_zoo.transfer.content_range import check_room
from internlm_zoo.transfer.failures import TransferFailure, changed, throttled, timed_out, violation
from internlm_zoo.transfer.run import Run
from internlm_zoo.transfer.scheduler import EndpointState, is_outpaced

# Seconds over which the throughput of a connection is measured.
_THROUGHPUT_SECONDS = 2.0


def stream(run: Run, state: EndpointState, claim: Claim, location: Location) -> None:
    """Raises TransferFailure if the stretch stops coming or is not what it should be, and what Partial
    raises."""
    partial = run.partial
    server = f"{state.name} {host_of(location.url)}"
    end = None if claim.end == partial.wanted.size else claim.end
    with run.client.open(location, claim.position, partial.records.validator(server), end) as body:
        body.begin(partial.wanted, again=state.backoff.suspect > 0)
        _check_answer(run, state, claim, body, server)
        _receive(run, state, claim, body)


def _check_answer(run: Run, state: EndpointState, claim: Claim, body: Body, server: str) -> None:
    """What is to be known of an answer before its bytes are taken."""
    partial = run.partial
    if partial.wanted.size is None and body.total is not None:
        check_room(body.url, partial.path, run.path, body.total - partial.blocks.here)
    if body.start < claim.position:
        _take_whole(run, state, claim)
    elif claim.position and not partial.wanted.identified and not partial.records.validator(server):
        raise changed(body.url, "does not say whether the file is still the same")
    partial.remember(server, body.validator)
    if body.end is not None and claim.end is not None and body.end > claim.end:
        with partial.changed:
            partial.blocks.extend(claim)


def _take_whole(run: Run, state: EndpointState, claim: Claim) -> None:
    """The whole file comes, not the part of it that was asked for."""
    state.whole = True
    if run.partial.blocks.claims > 1:
        raise TransferFailure(IntegrityError(f"{state.name} serves no parts of files"), Recovery.RETRY)
    run.say(f"{state.name} sent {run.path} from its start again")
    run.start_over()
    with run.partial.changed:
        run.partial.blocks.claim_all(claim)


def _receive(run: Run, state: EndpointState, claim: Claim, body: Body) -> None:
    offset, throughput = body.start, Throughput(_THROUGHPUT_SECONDS)
    for chunk in body.chunks(run.partial.wanted, run.client.retry_policy):
        run.check()
        if run.partial.wanted.size is None and body.total is not None:
            run.partial.size_is(body.total)  # now that it has been looked at
        _write(run, state, claim, body, offset, chunk)
        offset += len(chunk)
        if claim.done and body.end != offset:
            return
        if (rate := throughput.add(len(chunk))) is not None:
            _compare_throughput(run, state, rate, body)
    if run.partial.wanted.size is None:
        run.partial.size_is(claim.position)
    elif offset == body.start and not claim.done:
        raise timed_out(body.url, "the answer is empty")


def _write(run: Run, state: EndpointState, claim: Claim, body: Body, offset: int, chunk: bytes) -> None:
    with run.partial.changed:
        state.delivered(len(chunk))
        try:
            run.partial.write(claim, offset, chunk, state.name)
        except WrongBlock as error:
            raise violation(body.url, f"sends a wrong {run.path}: {error}") from error
        finally:
            run.show(state.name)


def _compare_throughput(run: Run, state: EndpointState, rate: float, body: Body) -> None:
    state.rate = rate
    if not run.client.limited and is_outpaced(state, run.endpoints, run.client.retry_policy):
        raise throttled(body.url, rate)
