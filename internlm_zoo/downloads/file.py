"""The files of one release on their way to its target: each from where it is nearest, checked before it is
shown."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from converters.locking import held
from converters.progress import byte_count
from internlm_zoo.caches.adopt import Adopter
from internlm_zoo.caches.find import LocalCopy
from internlm_zoo.downloads.candidates import Candidate
from internlm_zoo.downloads.cross_check import CrossCheck, cross_check
from internlm_zoo.downloads.probe import Probe
from internlm_zoo.downloads.request import DownloadRequest
from internlm_zoo.downloads.session import Session
from internlm_zoo.downloads.targets import STORE, FileState, StoreTarget, Target
from internlm_zoo.errors import AccessError, IntegrityError, NetworkError, NotFoundError
from internlm_zoo.files import File
from internlm_zoo.fs.ownership import Owner
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.sources.base import Location
from internlm_zoo.store.aliases import name_of
from internlm_zoo.store.block_digests import read_blocks, write_blocks
from internlm_zoo.transfer.blocks import BLOCK, Blocks
from internlm_zoo.transfer.engine import transfer
from internlm_zoo.transfer.journal import clear, forget, waiting
from internlm_zoo.transfer.partial import TakenOver
from internlm_zoo.transfer.seeding import seed, wrong_blocks
from internlm_zoo.transfer.values import Endpoint, Fetched, SourceStatistics, TransferRequest
from internlm_zoo.transfer.workers import Stopped, WorkSharing


@dataclass(frozen=True)
class FileOutcome:
    """One file that is here, as it is. listed: as its hub lists it. source: None if it was here before. kept:
    bytes of it that were here before. verified_by: the other hub whose digest it was held against, if its own
    publishes none. changed: when (ns), if its bytes were checked as they came. copy: where on this machine it
    was taken from."""

    file: File
    listed: File
    source: str | None = None
    kept: int = 0
    statistics: Mapping[str, SourceStatistics] = field(default_factory=dict)
    verified_by: str | None = None
    notes: tuple[str, ...] = ()
    changed: int | None = None
    copy: LocalCopy | None = None

    @classmethod
    def here(cls, file: File, there: FileState) -> FileOutcome:
        """Of a file that was right when it was looked at."""
        again = f"{file.path} in the release was not what it should be, and is taken from the store again"
        return cls(
            file.as_found(there.size, there.sha256),
            listed=file,
            kept=there.size,
            verified_by=there.verified_by,
            notes=(again,) if there.relinked else (),
        )


@dataclass(frozen=True)
class ReleaseDownload:
    """One release on its way. files: those that are wanted. probe: says in which order its candidates are
    asked for bytes; without one in their own."""

    candidate: Candidate
    others: Sequence[Candidate]
    release: LockedRelease
    files: Sequence[File]
    request: DownloadRequest
    target: Target
    session: Session
    probe: Probe = field(default_factory=Probe)
    stop: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def work_sharing(self) -> WorkSharing:
        return WorkSharing(self.stop)

    def plan(self, file: File) -> FileOutcome:
        """What `fetch` would do."""
        there = self.target.look(file)
        if there.sha256 is not None:
            return FileOutcome.here(file, there)
        if (copy := self.session.adopter.guess(file) or self._near(file)) is not None:
            return FileOutcome(file, file, copy=copy)
        hub = self.candidate.hub.name
        left = max(waiting(self.target.partial, self.key(file)), self._right_in(there.damaged, file))
        to_fetch = SourceStatistics(max(0, (file.size or 0) - left))
        return FileOutcome(file, file, hub, statistics={hub: to_fetch})

    def fetch(self, file: File) -> FileOutcome:
        there = self.target.look(file)
        if there.sha256 is not None and not self._is_unfinished(file):
            return self._found(file, there)
        while True:
            with suppress(TakenOver), self._alone(file):  # whoever had to wait finds it here
                there = self.target.look(file)
                if there.sha256 is not None:
                    return self._found(file, there)
                adopted = adopt(file, self.target, self.session.adopter, self.stop)
                return adopted or self._transfer(file, there.damaged)

    def _is_unfinished(self, file: File) -> bool:
        """Whether somebody is at it, or was killed when it was nearly done, and we may finish it."""
        return self._lock(file).exists() and os.access(self.target.partial, os.W_OK)

    def _found(self, file: File, there: FileState) -> FileOutcome:
        outcome = FileOutcome.here(file, there)
        for note in outcome.notes:
            self.session.progress.note(note)
        return outcome

    def _transfer(self, file: File, damaged: Path | None) -> FileOutcome:
        seeded = self._seed_partial(file, damaged) if damaged is not None else None
        fetched = self._fetch_bytes(file)
        check = CrossCheck()
        if not file.identified:
            hub, session = self.candidate.hub.name, self.session
            check = cross_check(fetched, file.path, hub, self._comparable(), session.hubs)
            if check.note:
                session.progress.note(check.note)
        changed = fetched.path.stat().st_mtime_ns
        write_blocks(self.session.store, fetched)
        self.target.keep(fetched, file, check.verified_by)
        forget(fetched.path)  # last: a kill before it has its name needs the journal
        statistics = {name: source for name, source in fetched.statistics.items() if name != STORE}
        return FileOutcome(
            file.as_found(fetched.size, fetched.sha256),
            listed=file,
            source=", ".join(name for name in fetched.sources if name in statistics) or None,
            kept=fetched.resumed if seeded is None else seeded,
            statistics=statistics,
            verified_by=check.verified_by,
            notes=(*fetched.notes, *filter(None, [check.note])),
            changed=changed,
        )

    def _right_in(self, damaged: Path | None, file: File) -> int:
        """Bytes of the blocks of a damaged file that are right, where they are known."""
        known = read_blocks(self.session.store, file.sha256)
        if damaged is None or not known or file.size is None:
            return 0
        with suppress(OSError):
            wrong = wrong_blocks(damaged, file.size, known)
            blocks = Blocks(file.size)
            return file.size - sum(map(blocks.length, wrong))
        return 0

    def _seed_partial(self, file: File, damaged: Path) -> int | None:
        """Leave what is right of a damaged file to be gone on from, and say so. The number of bytes that are
        believed; None if all of it comes again."""
        say, known = self.session.progress.note, read_blocks(self.session.store, file.sha256)
        if not file.identified or file.size is None or file.size <= BLOCK:
            say(f"{file.path} is not what it should be: it comes again")
            return None
        if not known:
            say(f"the blocks of {file.path} are not known: it is compared with what a hub sends")
        try:
            kept = seed(self.target.partial, self.key(file), file, damaged, known)
        except OSError as error:
            say(f"{file.path} cannot be read: {error.strerror}: it comes again")
            return None
        if known:
            right = f"{byte_count(kept)} of it are right, the rest comes again"
            say(f"{file.path} is not what it should be: {right}")
        return kept

    def _fetch_bytes(self, file: File) -> Fetched:
        """Asks every hub once per run: the next candidate of the format need not hear the same refusals."""
        key, failed = self.key(file), self.session.failed
        content = (self.candidate.release.format, f"{key} {file.size}")
        if content in failed:
            raise failed[content]
        try:
            endpoints, blocks = self._endpoints(file), read_blocks(self.session.store, file.sha256)
            return transfer(
                TransferRequest(file, endpoints, self.target.partial, key, blocks),
                client=self.session.client,
                stop=self.stop,
                progress=self.session.progress,
                work_sharing=self.work_sharing,
            )
        except (IntegrityError, NotFoundError, AccessError, NetworkError) as error:
            failed[content] = error
            raise

    def _near(self, file: File) -> LocalCopy | None:
        """The file of the store that it would be copied from."""
        blob = self.target.near(file)
        if blob is None:
            return None
        status = blob.stat()
        return LocalCopy(blob, "the store", status.st_size, status.st_dev)

    def _endpoints(self, file: File) -> list[Endpoint]:
        """The store, and the hubs that may have it, in the order to be asked; without a digest only the
        release's own, because others' bytes could not be told apart."""
        blob = self.target.near(file)
        here = [] if blob is None else [Endpoint(STORE, lambda: Location(blob.as_uri()))]
        candidates = self.probe.order or self.candidates if file.identified else (self.candidate,)
        names = [candidate.hub.name for candidate in candidates]
        return here + [
            Endpoint(
                candidate.hub.name if names.count(candidate.hub.name) == 1 else candidate.release.id,
                partial(self.session.hubs.locate, candidate, file),
                publishes_digest=candidate is self.candidate or candidate.publishes_digests,
            )
            for candidate in candidates
        ]

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """The release's own hub and the others with the same format."""
        same = (other for other in self.others if other.release.format == self.candidate.release.format)
        return (self.candidate, *same)

    def _comparable(self) -> list[Candidate]:
        own = self.candidate.release
        return [c for c in self.session.everywhere if c.release.format == own.format and c.release != own]

    def needs(self, file: File) -> int:
        """Bytes of disk it will take, judging by names alone."""
        if file.size is None:
            return 0
        blob = self.session.store.blob(file.sha256) if file.sha256 else None
        if isinstance(self.target, StoreTarget) and blob and blob.exists():
            return 0
        if (self.target.folder / file.path).exists() or self.target.links(self.session.adopter.copies(file)):
            return 0
        return max(0, file.size - waiting(self.target.partial, self.key(file)))

    def key(self, file: File) -> str:
        """What the partial file is called."""
        return name_of(self.release, file)

    def _lock(self, file: File) -> Path:
        return self.target.partial / f"{self.key(file)}.lock"

    @contextmanager
    def _alone(self, file: File) -> Iterator[None]:
        """No other process fetches the same content meanwhile. The lock's file goes last, after all that a
        kill may have left of the content: whoever waits looks again."""

        def say(text: str) -> None:
            self.session.progress.note(f"{file.path}: {text}")

        with Owner(self.target.partial), held(self._lock(file), say, self._check):
            yield
            clear(self.target.partial, self.key(file))

    def _check(self) -> None:
        if self.stop.is_set():
            raise Stopped


def adopt(file: File, target: Target, adopter: Adopter, stop: threading.Event) -> FileOutcome | None:
    """The file, taken from where it was on this machine, if it was. Raises Stopped once `stop` is set."""
    for found in adopter.matches(file, stop):
        if target.adopt(found, file):
            size = found.known.stamp.size
            return FileOutcome(file.as_found(size, found.known.sha256), file, kept=size, copy=found.copy)
    return None
