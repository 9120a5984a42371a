"""Which hub delivers soonest: a short look at each, at once, before much is fetched from the first one.

It orders where bytes come from. Which release is meant is not for it to say: that is the first that the
registry, or the user, names."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from converters.system.threads import started
from internlm_zoo.downloads.candidates import Candidate
from internlm_zoo.downloads.session import Session
from internlm_zoo.errors import ZooError
from internlm_zoo.files import File
from internlm_zoo.transfer.failures import TransferFailure
from internlm_zoo.transfer.values import SourceStatistics

WORTH = 64 << 20
"""Bytes to fetch from which on a probe pays."""

SAMPLE = 256 << 10
"""Bytes asked of each hub; how long they take, with the answer's delay, is its rank."""

_SECONDS = 3.0  # a hub that needs longer for SAMPLE is no quick one


@dataclass(frozen=True)
class Probe:
    """order: to be asked in. statistics: what the probe itself took. notes: hubs that have other content, or
    none."""

    order: tuple[Candidate, ...] = ()
    statistics: Mapping[str, SourceStatistics] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass
class _Look:
    candidate: Candidate
    seconds: float = float("inf")
    served: int = 0
    note: str | None = None


def probe(candidates: Sequence[Candidate], file: File, session: Session) -> Probe:
    """The candidates, the quickest first; those that fail, or take more than _SECONDS, keep their order
    behind them."""
    looks = [_Look(candidate) for candidate in candidates]
    threads = [
        threading.Thread(
            target=_look, args=(look, file, session), name=f"look at {look.candidate.hub.name}", daemon=True
        )
        for look in looks
    ]
    threads = list(filter(started, threads))
    deadline = time.monotonic() + _SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    ranked = sorted(looks, key=lambda look: look.seconds)
    return Probe(
        order=tuple(look.candidate for look in ranked),
        statistics={look.candidate.hub.name: SourceStatistics(look.served) for look in looks if look.served},
        notes=tuple(f"not used: {look.note}" for look in looks if look.note),
    )


def _look(look: _Look, file: File, session: Session) -> None:
    """A hub that fails here is not out: it is asked last."""
    try:
        location = session.hubs.locate(look.candidate, file)
        began = time.monotonic()
        with session.client.open(location, 0, None, SAMPLE) as body:
            for chunk in body.chunks(file, session.client.retry_policy):
                look.served += len(chunk)
                if look.served >= SAMPLE:
                    break
        look.seconds = time.monotonic() - began
    except TransferFailure as failure:
        look.note = f"{look.candidate.hub.name}: {failure.error.what}"
    except ZooError as error:
        look.note = error.what
