"""Brings the chosen files of one release to where they are wanted, and shows them when all are checked."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from internlm_zoo.errors import AccessError, IntegrityError, NetworkError, NoSpaceError, NotFoundError
from internlm_zoo.registry.lock import LockedFile, LockedRelease, record
from internlm_zoo.store.caches import Spot, taken
from internlm_zoo.store.candidates import Candidate
from internlm_zoo.store.hubs import as_release
from internlm_zoo.store.plan import DownloadPlan, PlannedFile
from internlm_zoo.store.record import Record
from internlm_zoo.store.targets import STORE, FolderTarget, StoreTarget, Target
from internlm_zoo.store.trust import Opinion, compare
from internlm_zoo.store.values import Download, DownloadedFile, Means, Request
from internlm_zoo.transfer.crew import Crew, Stopped
from internlm_zoo.transfer.engine import transfer
from internlm_zoo.transfer.journal import waiting
from internlm_zoo.transfer.values import Fetched, Origin, Wanted
from internlm_zoo.transfer.workers import work

_LOCK_SECONDS = 0.5


def fetch_release(
    candidate: Candidate, others: Sequence[Candidate], request: Request, means: Means
) -> Download:
    """others: where else the same bytes may be. Raises what `download` does, about this one release."""
    errand, chosen = _errand(candidate, others, request, means)
    release, target = errand.release, errand.target
    if isinstance(target, FolderTarget):
        target.begin(request.model, release)
    _check_space(errand, chosen)
    means.progress.plan(len(chosen), replace(release, files=chosen).size)
    largest_first = sorted(chosen, key=lambda file: -(file.size or 0))
    got = work(
        [partial(_fetch, errand, file) for file in largest_first],
        request.max_workers,
        errand.stop,
        request.cancel,
        errand.crew.help,
    )
    release = _learned(errand, got)
    here = tuple(entry.file for entry in sorted(got, key=lambda entry: entry.file.path))
    checked = {entry.file.path: entry.changed for entry in got if entry.changed is not None}
    target.finish(Record(request.model, replace(release, files=here), len(release.files), checked))
    if (release != candidate.locked or candidate.planned) and not candidate.stands_in:
        record(means.settings, release)
    for note in _closing_notes(release.hub, got):
        means.progress.note(note)
    return _answer(errand, release, got, request)


def plan_release(
    candidate: Candidate, others: Sequence[Candidate], request: Request, means: Means
) -> DownloadPlan:
    """What `fetch_release` would do; nothing is written."""
    errand, chosen = _errand(candidate, others, request, means)
    got = [errand.plan(file) for file in sorted(chosen, key=lambda file: file.path)]
    files = tuple(
        PlannedFile(e.file.path, e.file.size, e.file.sha256, e.source, sum(e.served.values()), _taken_from(e))
        for e in got
    )
    notes = tuple(_closing_notes(errand.release.hub, got))
    return DownloadPlan(files, errand.target.folder, errand.release, request, notes)


@dataclass(frozen=True)
class _Got:
    """One file that is here, as it is. listed: as its hub lists it. source: None if it was here before.
    voucher: the other hub whose digest it was held against, if its own publishes none. changed: when (ns), if
    its bytes were checked as they came. spot: where on this machine it was taken from."""

    file: LockedFile
    listed: LockedFile
    source: str | None = None
    served: Mapping[str, int] = field(default_factory=dict)
    voucher: str | None = None
    notes: tuple[str, ...] = ()
    changed: int | None = None
    spot: Spot | None = None


@dataclass(frozen=True)
class _Errand:
    """One release on its way."""

    candidate: Candidate
    others: Sequence[Candidate]
    release: LockedRelease
    target: Target
    means: Means
    stop: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def crew(self) -> Crew:
        return Crew(self.stop)

    def plan(self, file: LockedFile) -> _Got:
        """What `fetch` would do."""
        if (sha256 := self.target.present(file)) is not None:
            return _here(file, sha256)
        if (spot := self.means.adopter.guess(file)) is not None:
            return _Got(file, file, spot=spot)
        hub = self.candidate.hub.name
        left = waiting(self.target.partial, self._key(file))
        return _Got(file, file, hub, {hub: max(0, (file.size or 0) - left)})

    def fetch(self, file: LockedFile) -> _Got:
        if (sha256 := self.target.present(file)) is not None:
            return _here(file, sha256)
        with self._alone(file):
            if (sha256 := self.target.present(file)) is not None:
                return _here(file, sha256)
            return self._adopt(file) or self._transfer(file)

    def _adopt(self, file: LockedFile) -> _Got | None:
        for found in self.means.adopter.matches(file, self.stop):
            if self.target.adopt(found, file):
                size, sha256 = found.known.stamp.size, found.known.sha256
                return _Got(replace(file, size=size, sha256=sha256), listed=file, spot=found.spot)
        return None

    def _transfer(self, file: LockedFile) -> _Got:
        fetched = self._bring(file)
        opinion = Opinion()
        if not file.has_digest:
            hub, means = self.candidate.hub.name, self.means
            opinion = compare(fetched, file.path, hub, self._comparable(), means.hubs)
            if opinion.note:
                means.progress.note(opinion.note)
        changed = fetched.path.stat().st_mtime_ns
        self.target.keep(fetched, file)
        return _Got(
            replace(file, size=fetched.size, sha256=fetched.sha256),
            listed=file,
            source=", ".join(author for author in fetched.authors if author != STORE) or None,
            served={name: count for name, count in fetched.served.items() if name != STORE},
            voucher=opinion.voucher,
            notes=(*fetched.notes, *filter(None, [opinion.note])),
            changed=changed,
        )

    def _bring(self, file: LockedFile) -> Fetched:
        """Asks every hub once per run: the next candidate of the format need not hear the same refusals."""
        key, hopeless = self._key(file), self.means.hopeless
        content = (self.candidate.release.format, f"{key} {file.size}")
        if content in hopeless:
            raise hopeless[content]
        try:
            return transfer(
                Wanted(file.path, file.size, file.sha256, file.git_sha1),
                [*self.target.near(file), *self._origins(file)],
                self.target.partial,
                key,
                client=self.means.client,
                stop=self.stop,
                progress=self.means.progress,
                crew=self.crew,
            )
        except (IntegrityError, NotFoundError, AccessError, NetworkError) as error:
            hopeless[content] = error
            raise

    def _origins(self, file: LockedFile) -> list[Origin]:
        """The release's own hub, then the others; without a digest their bytes could not be told apart."""
        same = [other for other in self.others if other.release.format == self.candidate.release.format]
        doors = [self.candidate, *(same if file.has_digest else ())]
        names = [door.hub.name for door in doors]
        return [
            Origin(
                door.hub.name if names.count(door.hub.name) == 1 else door.release.id,
                partial(self.means.hubs.locate, door, file),
            )
            for door in doors
        ]

    def _comparable(self) -> list[Candidate]:
        own = self.candidate.release
        return [c for c in self.means.everywhere if c.release.format == own.format and c.release != own]

    def needs(self, file: LockedFile) -> int:
        """Bytes of disk it will take, judging by names alone."""
        blob = file.sha256 and self.means.store.blob(file.sha256).exists()
        if file.size is None or (blob and isinstance(self.target, StoreTarget)):
            return 0
        if (self.target.folder / file.path).exists() or self.target.links(self.means.adopter.spots(file)):
            return 0
        return max(0, file.size - waiting(self.target.partial, self._key(file)))

    def _key(self, file: LockedFile) -> str:
        """What the partial file is called: after its content where that is known, so that any hub can go on
        with it."""
        if file.sha256 is not None:
            return file.sha256
        about = (self.release.id, self.release.revision, file.path, str(file.size), str(file.git_sha1))
        return hashlib.sha256("\0".join(about).encode()).hexdigest()

    @contextmanager
    def _alone(self, file: LockedFile) -> Iterator[None]:
        """No other process that honours locks fetches the same content meanwhile. The lock's file goes when
        the content is there: whoever waits for it looks again."""
        from filelock import FileLock, Timeout

        path = self.target.partial / f"{self._key(file)}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        while not lock.is_locked:
            if self.stop.is_set():
                raise Stopped
            with suppress(Timeout):
                lock.acquire(timeout=_LOCK_SECONDS)
        try:
            yield
            with suppress(PermissionError):  # Windows removes it with the last one that waits
                path.unlink(missing_ok=True)
        finally:
            lock.release()


def _here(file: LockedFile, sha256: str) -> _Got:
    return _Got(replace(file, sha256=sha256), listed=file)


def _is_vouched(got: _Got) -> bool:
    return got.listed.has_digest or got.voucher is not None


def _errand(
    candidate: Candidate, others: Sequence[Candidate], request: Request, means: Means
) -> tuple[_Errand, tuple[LockedFile, ...]]:
    """The errand, and the files it is for."""
    release = candidate.locked or as_release(candidate, means.hubs.snapshot(candidate))
    target = _target(release, request, means)
    return _Errand(candidate, others, release, target, means), request.selection.of(release)


def _target(release: LockedRelease, request: Request, means: Means) -> StoreTarget | FolderTarget:
    if request.local_dir is not None:
        return FolderTarget(means.store, request.local_dir.absolute(), request.force)
    folder = means.store.release(release.hub, release.repo, release.revision)
    return StoreTarget(means.store, folder, means.adopter.ledger, request.force)


def _check_space(errand: _Errand, chosen: Sequence[LockedFile]) -> None:
    """Better now than after hours. Raises NoSpaceError."""
    errand.target.partial.mkdir(parents=True, exist_ok=True)
    needed = sum(errand.needs(file) for file in chosen)
    free = shutil.disk_usage(errand.target.partial).free
    if needed > free:
        what = f"{errand.release.id} needs {needed:,} more bytes and the disk has {free:,}"
        raise NoSpaceError(what, errand.target.folder, "make room, or choose files with --include")


def _fetch(errand: _Errand, file: LockedFile) -> _Got:
    """What was here counts as done, too."""
    got = errand.fetch(file)
    if got.changed is None:
        size = got.file.size or 0
        errand.means.progress.start(file.path, size, size)
        errand.means.progress.finish(file.path)
    return got


def _learned(errand: _Errand, got: Sequence[_Got]) -> LockedRelease:
    """The release with the sizes and digests that the download found."""
    release = errand.release
    found = {entry.file.path: entry for entry in got}
    files = tuple(found[file.path].file if file.path in found else file for file in release.files)
    if errand.candidate.locked is not None and not errand.candidate.planned:
        return replace(release, files=files)
    unfetched = (file for file in release.files if file.path not in found)
    vouched = all(map(_is_vouched, got)) and all(file.has_digest for file in unfetched)
    return replace(release, files=files, trust="hub" if vouched else "first-use")


def _answer(errand: _Errand, release: LockedRelease, got: Sequence[_Got], request: Request) -> Download:
    served: dict[str, int] = {}
    for name, count in (item for entry in got for item in entry.served.items()):
        served[name] = served.get(name, 0) + count
    files = tuple(
        DownloadedFile(e.file.path, e.file.size, e.file.sha256, e.source, _taken_from(e))
        for e in sorted(got, key=lambda entry: entry.file.path)
    )
    return Download(
        model=request.model,
        hub=release.hub,
        repo=release.repo,
        revision=release.revision,
        format=release.format,
        path=errand.target.folder,
        files=files,
        fetched_bytes=sum(served.values()),
        reused_bytes=sum(file.size or 0 for file in files if file.source is None),
        served=served,
        trust=release.trust,
        notes=tuple(
            dict.fromkeys([note for entry in got for note in entry.notes] + _closing_notes(release.hub, got))
        ),
    )


def _taken_from(got: _Got) -> Path | None:
    return got.spot.path if got.spot else None


def _closing_notes(hub: str, got: Sequence[_Got]) -> list[str]:
    """Where files were taken from; what the digests of fetched ones stand on, if their hub has none."""
    bare = [entry for entry in got if entry.source is not None and not entry.listed.has_digest]
    counts = Counter(entry.voucher for entry in bare)
    return taken(entry.spot for entry in got) + [
        f"{hub} publishes no digests: {count} of the files "
        + (f"were compared with those of {voucher}" if voucher else "are trusted on first use")
        for voucher, count in counts.items()
    ]
