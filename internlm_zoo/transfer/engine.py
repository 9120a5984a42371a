"""The loop that gets one file from whichever of its origins delivers.

Bytes come in order, from one origin at a time; an origin that stalls, lies or dies is left at the byte
where it stood, and the next goes on there. When the finished file is wrong and several had a part in it,
each of them has to bring it whole, so that the guilty one can be named.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from internlm_zoo.errors import (
    AccessError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    UnsupportedError,
    ZooError,
)
from internlm_zoo.progress import Progress
from internlm_zoo.sources.base import Location
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.partial import BLOCK, Partial
from internlm_zoo.transfer.refusal import Refusal, Remedy, changed, gravest, host, silent
from internlm_zoo.transfer.values import Fetched, Origin, Wanted

_EARLIER = "an earlier run"


class Stopped(Exception):
    """The caller asked to stop; what arrived is kept for the next run."""


def transfer(
    wanted: Wanted,
    origins: Sequence[Origin],
    folder: Path,
    key: str,
    *,
    client: Client,
    stop: threading.Event,
    progress: Progress,
) -> Fetched:
    """Bring the file into `folder` and check it; the caller gives it its final name.

    folder, key: where the partial file lives and what names its content across runs. Raises IntegrityError,
    NotFoundError, AccessError or NetworkError when no origin delivers, naming each; NoSpaceError; Stopped.
    """
    with Partial(folder, key, wanted) as partial:
        progress.start(wanted.path, wanted.size, partial.position)
        try:
            return _Run(partial, [_Contestant(origin) for origin in origins], client, stop, progress).run()
        finally:
            progress.finish(wanted.path)


@dataclass
class _Contestant:
    """An origin and how it has fared. location: None: to be asked for. fresh: asked for since it last
    delivered a byte. failures: in a row. error: why it is out."""

    origin: Origin
    location: Location | None = None
    fresh: bool = True
    failures: int = 0
    ready_at: float = 0.0
    block: int = 0
    served: int = 0
    error: ZooError | None = None


@dataclass
class _Run:
    partial: Partial
    contestants: list[_Contestant]
    client: Client
    stop: threading.Event
    progress: Progress
    solo: bool = False
    authors: set[str] = field(default_factory=set)
    last: _Contestant | None = None
    ended: bool = False
    notes: list[str] = field(default_factory=list)
    resumed: int = 0

    def run(self) -> Fetched:
        self.resumed = self.partial.resumed
        if self.resumed:
            self.authors.add(_EARLIER)
        while True:
            while not (self.ended or self.partial.complete):
                self._attempt(self._next())
            wrong = self.partial.mismatch()
            if wrong is None:
                return self._finish()
            self._blame(wrong)

    def _finish(self) -> Fetched:
        served = {c.origin.name: c.served for c in self.contestants if c.served}
        return Fetched(
            path=self.partial.keep(),
            size=self.partial.position,
            sha256=self.partial.sha256,
            authors=tuple(sorted(self.authors)),
            served=served,
            resumed=self.resumed,
            notes=tuple(self.notes),
        )

    def _next(self) -> _Contestant:
        """Whoever may be asked soonest; the first in line among equals. Waits until then."""
        alive = [contestant for contestant in self.contestants if contestant.error is None]
        if not alive:
            raise self._verdict()
        chosen = min(alive, key=lambda contestant: contestant.ready_at)
        if self.stop.wait(max(0.0, chosen.ready_at - time.monotonic())):
            raise Stopped
        if self.solo and self.last not in (None, chosen):
            self._start_over()
        self.last = chosen
        return chosen

    def _attempt(self, contestant: _Contestant) -> None:
        try:
            self._stream(contestant)
        except Refusal as refusal:
            self._bear(contestant, refusal)

    def _stream(self, contestant: _Contestant) -> None:
        partial, location = self.partial, self._locate(contestant)
        door = f"{contestant.origin.name} {host(location.url)}"
        with self.client.open(location, partial.position, partial.validator(door)) as body:
            if body.start < partial.position:
                self._say(f"{contestant.origin.name} sent {partial.wanted.path} from its start again")
                self._start_over()
            elif partial.position and not partial.wanted.has_digest and not partial.validator(door):
                raise changed(location.url, "does not say whether the file is still the same")
            partial.remember(door, body.validator)
            before = partial.position
            for chunk in body.chunks(partial.wanted, self.client.patience):
                self._accept(contestant, chunk)
            self.ended = partial.wanted.size is None
            if partial.position == before and not (self.ended or partial.complete):
                raise silent(location.url, "the answer is empty")

    def _locate(self, contestant: _Contestant) -> Location:
        location = contestant.location
        if location is None or (location.expires is not None and location.expires <= time.time()):
            try:
                location = contestant.origin.locate()
            except (IntegrityError, NotFoundError, AccessError, NetworkError, UnsupportedError) as error:
                raise Refusal(error, Remedy.LEAVE) from error
            contestant.location, contestant.fresh = location, True
        return location

    def _accept(self, contestant: _Contestant, chunk: bytes) -> None:
        if self.stop.is_set():
            raise Stopped
        self.partial.write(chunk)
        self.progress.advance(self.partial.wanted.path, len(chunk))
        self.authors.add(contestant.origin.name)
        contestant.fresh = False
        contestant.served += len(chunk)
        if contestant.served - contestant.block >= BLOCK:
            contestant.block, contestant.failures = contestant.served, 0

    def _bear(self, contestant: _Contestant, refusal: Refusal) -> None:
        """Take the consequences of a refusal."""
        name = contestant.origin.name
        self._say(
            f"{name}: {refusal.error.what}, at byte {self.partial.position:,} of {self.partial.wanted.path}"
        )
        contestant.failures += 1
        patience = self.client.patience
        out = (
            refusal.remedy is Remedy.LEAVE
            or (refusal.remedy is Remedy.ASK and contestant.fresh)
            or contestant.failures >= patience.tries
            or refusal.after > patience.longest_asked
        )
        if out:
            contestant.error = refusal.error
        elif refusal.remedy is Remedy.ASK:
            contestant.location = None
        else:
            contestant.ready_at = time.monotonic() + max(refusal.after, self._pause(contestant))
        if refusal.remedy is Remedy.RESTART:
            self._start_over()

    def _say(self, note: str) -> None:
        self.notes.append(note)
        self.progress.note(note)

    def _pause(self, contestant: _Contestant) -> float:
        """Exponential, with jitter, so that many clients do not come back in step."""
        patience = self.client.patience
        wait = patience.first_wait * 2.0 ** (contestant.failures - 1)
        return min(wait, patience.longest_wait) * random.uniform(0.5, 1.0)

    def _blame(self, wrong: str) -> None:
        """All bytes are here and they are wrong. One author: it is out. Several: each must bring the whole
        file."""
        path, authors = self.partial.wanted.path, self.authors
        guilty = [c for c in self.contestants if c.origin.name in authors]
        if len(authors) == 1 and guilty:
            guilty[0].error = IntegrityError(f"{path} from {guilty[0].origin.name} is wrong: {wrong}")
            self._say(guilty[0].error.what)
        else:
            self._say(f"{path} is wrong ({wrong}) with bytes from {', '.join(sorted(authors))}; started over")
        self.solo = True
        self._start_over()

    def _start_over(self) -> None:
        self.progress.advance(self.partial.wanted.path, -self.partial.position)
        self.partial.reset()
        self.authors.clear()
        self.ended = False
        self.resumed = 0

    def _verdict(self) -> ZooError:
        """The error that says why nobody delivered; wrong bytes are not left lying about."""
        errors = {c.origin.name: c.error for c in self.contestants if c.error is not None}
        path = self.partial.wanted.path
        if not errors:
            return NotFoundError(f"no source has {path}")
        if len(errors) == 1:
            error = next(iter(errors.values()))
            return error if error.where else type(error)(error.what, path, error.fix)
        reasons = "; ".join(f"{name}: {error.what}" for name, error in errors.items())
        return gravest(errors.values())(f"no source delivers {path}: {reasons}")
