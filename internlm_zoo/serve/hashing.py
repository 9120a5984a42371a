"""Hashes what nobody has hashed yet, beside the server: by few threads of its own, piece by piece in turns.

The file of which least has been read comes next, so that a new one waits for a piece of the others and not
for all of them. A file's state is its device, inode, size and times of change, of which nobody can set back
the second; what was hashed of a state is remembered, what changed meanwhile is begun again when it is asked
for.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from converters.formats.access import regular
from converters.system.threads import started
from internlm_zoo.files import ALGORITHMS
from internlm_zoo.hashing import feed

State = tuple[int, ...]

THREADS = 2
"""At a time: a disk has little more to give, and the server needs processors, too."""
_PIECE = 64 << 20
_SMALL = 1 << 20
"""Bytes of a file that is not worth waiting for a turn."""
_RATE = 200 << 20
"""Bytes per second that one thread reads and hashes, until that is known."""


def state_of(status: os.stat_result) -> State:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class ServerStopping(OSError):
    """The server ends before it is hashed."""


class Unhashed(Exception):
    """Not all is known yet; ask again when the jobs are over."""

    def __init__(self, jobs: list[HashJob]) -> None:
        super().__init__(f"{len(jobs)} files are being hashed")
        self.jobs = jobs

    @property
    def over(self) -> bool:
        return all(job.over for job in self.jobs)


@dataclass(order=True)
class HashJob:
    """One digest of one file. done: bytes read so far. error: why it came to nothing."""

    done: int
    number: int
    kind: str = field(compare=False)
    file: Path = field(compare=False)
    state: State = field(compare=False)
    digest: str | None = field(default=None, compare=False)
    error: OSError | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        self._hash = ALGORITHMS[self.kind].begin(self.size)

    @property
    def size(self) -> int:
        return self.state[2]

    @property
    def over(self) -> bool:
        return self.digest is not None or self.error is not None

    def advance(self, stop: threading.Event) -> None:
        """Read the next piece."""
        try:
            self._read(min(self.size, self.done + _PIECE), stop)
        except OSError as error:
            self.error = error

    def _read(self, end: int, stop: threading.Event) -> None:
        def passed(amount: int) -> None:
            self.done += amount
            if stop.is_set():
                raise ServerStopping("the server ends")

        with open(self.file, "rb", buffering=0, opener=regular) as stream:
            stream.seek(self.done)
            feed(stream, self._hash.update, end - self.done, passed)
            if state_of(os.fstat(stream.fileno())) != self.state:
                raise OSError(f"{self.file.name} changed while it was hashed")
        if self.done == self.size:
            self.digest = self._hash.hexdigest()


class Hashing:
    """Thread-safe; threads begin with the first file that is worth it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._known: dict[tuple[object, ...], HashJob] = {}
        self._believed: dict[tuple[Path, str], State] = {}
        self._waiting: list[HashJob] = []
        self._threads: list[threading.Thread] = []
        self._read, self._spent = _RATE, 1.0

    def digest(self, kind: str, file: Path, state: State) -> str | HashJob:
        """Of a file in this state, or what will have it. Raises OSError for what could not be read."""
        with self._changed:
            job = self._known.get((kind, state))
            if job is not None:
                return self._outcome(job)
            if self._stop.is_set():
                raise ServerStopping("the server ends")
            job = self._known[kind, state] = HashJob(0, len(self._known), kind, file, state)
            if job.size > _SMALL and self._begin():
                heapq.heappush(self._waiting, job)
                self._changed.notify()
                return job
        while not job.over:
            job.advance(self._stop)
        with self._changed:
            return self._outcome(job)

    def believes(self, file: Path, sha256: str, state: State) -> bool:
        """Whether what somebody says of a file holds: for the state in which it was said first."""
        with self._changed:
            return self._believed.setdefault((file, sha256), state) == state

    @property
    def seconds(self) -> int:
        """How long all that is being hashed will take, about."""
        with self._changed:
            left = [job.size - job.done for job in self._known.values() if not job.over]
            return int(sum(left) * self._spent / self._read / max(1, min(THREADS, len(left))))

    def close(self) -> None:
        """Leave what is not done; whoever waits for it hears so."""
        with self._changed:
            self._stop.set()
            for job in self._known.values():
                if not job.over:
                    job.error = ServerStopping("the server ends")
            self._changed.notify_all()

    def _outcome(self, job: HashJob) -> str | HashJob:
        if job.error is None:
            return job.digest if job.digest is not None else job
        self._known.pop((job.kind, job.state), None)
        raise job.error

    def _begin(self) -> bool:
        """Whether there are threads for it."""
        if len(self._threads) < THREADS:
            thread = threading.Thread(target=self._work, name="hashing", daemon=True)
            if started(thread):
                self._threads.append(thread)
        return bool(self._threads)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            before, begun = job.done, time.monotonic()
            job.advance(self._stop)
            with self._changed:
                self._read += job.done - before
                self._spent += time.monotonic() - begun
                if not job.over:
                    heapq.heappush(self._waiting, job)

    def _next(self) -> HashJob | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stop.is_set())
            return None if self._stop.is_set() else heapq.heappop(self._waiting)
