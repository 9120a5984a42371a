"""Brings the chosen files of one release to where they are wanted, and shows them when all are checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from converters.system.filesystem import keeps_out, room
from internlm_zoo.caches.find import taken
from internlm_zoo.downloads.candidates import AUTO, Candidate
from internlm_zoo.downloads.file import FileDownload, FileOutcome
from internlm_zoo.downloads.listings import as_release
from internlm_zoo.downloads.plan import DownloadPlan, PlannedFile
from internlm_zoo.downloads.probe import WORTH, Probe, probe
from internlm_zoo.downloads.request import DownloadRequest
from internlm_zoo.downloads.result import DownloadedFile, DownloadResult
from internlm_zoo.downloads.session import Session
from internlm_zoo.downloads.targets import FolderTarget, StoreTarget, Target
from internlm_zoo.errors import NoSpaceError, OversizeError, ZooError
from internlm_zoo.files import File
from internlm_zoo.registry import load_registry
from internlm_zoo.registry.lock import LockedRelease, record
from internlm_zoo.store.name_clashes import check_twins
from internlm_zoo.store.record import Record, intact_record
from internlm_zoo.transfer.values import SourceStatistics
from internlm_zoo.transfer.workers import work


def fetch_release(
    candidate: Candidate, others: Sequence[Candidate], request: DownloadRequest, means: Session
) -> DownloadResult:
    """others: where else the same bytes may be. Raises what `download` does, about this one release."""
    errand, chosen = _errand(candidate, others, request, means)
    release, target = errand.release, errand.target
    target.begin(request.model)
    _check_names(target, chosen)
    _check_space(errand, chosen, request)
    errand, probed = _probed(errand, chosen, request)
    means.progress.plan(len(chosen), replace(release, files=chosen).size)
    # Or it might begin when all others are done.
    largest_first = sorted(chosen, key=lambda file: -(file.size or 0))
    jobs = [partial(_fetch, errand, file) for file in largest_first]
    with errand.work_sharing as work_sharing:
        got = work(jobs, request.max_workers, errand.stop, means.cancel, work_sharing.take_part)
    release = _learned(errand, got)
    here = tuple(entry.file for entry in sorted(got, key=lambda entry: entry.file.path))
    checked = {entry.file.path: entry.changed for entry in got if entry.changed is not None}
    target.finish(Record(request.model, replace(release, files=here), len(release.files), checked))
    if (release != candidate.locked or candidate.planned) and not candidate.stands_in:
        _lock(release, means)
    for note in _closing_notes(release.hub, got):
        means.progress.note(note)
    return _answer(errand, release, got, request.model, probed)


def _lock(release: LockedRelease, means: Session) -> None:
    """Where the store's home takes nothing, a download to another place goes without."""
    try:
        record(means.settings, release)
    except OSError as error:
        if not keeps_out(error):
            raise
        what = f"{release.id} could not be locked: {error.strerror} ({error.filename or means.settings.home})"
        means.progress.note(what)


def plan_release(
    candidate: Candidate, others: Sequence[Candidate], request: DownloadRequest, means: Session
) -> DownloadPlan:
    """What `fetch_release` would do; nothing is written."""
    errand, chosen = _errand(candidate, others, request, means)
    got = [errand.plan(file) for file in sorted(chosen, key=lambda file: file.path)]
    files = tuple(
        PlannedFile(e.file.path, e.file.size, e.file.sha256, e.source, _bytes(e.services), _taken_from(e))
        for e in got
    )
    notes = (*means.told, *_closing_notes(errand.release.hub, got))
    return DownloadPlan(files, errand.target.folder, errand.release, request, notes)


def _is_vouched(got: FileOutcome) -> bool:
    return got.listed.identified or got.voucher is not None


def _errand(
    candidate: Candidate, others: Sequence[Candidate], request: DownloadRequest, means: Session
) -> tuple[FileDownload, tuple[File, ...]]:
    """The errand, and the files it is for."""
    release = candidate.locked or as_release(candidate, means.hubs.snapshot(candidate))
    target = _target(release, request, means)
    return FileDownload(candidate, others, release, target, means), request.selection.of(release)


def _target(release: LockedRelease, request: DownloadRequest, means: Session) -> StoreTarget | FolderTarget:
    if request.local_dir is not None:
        return FolderTarget(means.store, request.local_dir.absolute(), release, request.force)
    folder = means.store.release(release.hub, release.repo, release.revision)
    return StoreTarget(means.store, folder, release, means.adopter.ledger, request.force)


def _check_names(target: Target, chosen: Sequence[File]) -> None:
    """That each file has a place of its own, also beside those that came before."""
    there = intact_record(target.folder)
    before = [file.path for file in there.release.files] if there else []
    check_twins(target.folder, target.partial, {*before, *(file.path for file in chosen)})


def _check_space(errand: FileDownload, chosen: Sequence[File], request: DownloadRequest) -> None:
    """Better now than after hours. Raises NoSpaceError; OversizeError where that is one hub's word alone."""
    needed = sum(map(errand.needs, chosen))
    free = room(errand.target.partial)
    if free is None or needed <= free:
        return
    what = f"{errand.release.id} needs {needed:,} more bytes and the disk has {free:,}"
    if errand.candidate.locked is None and (other := _fitting(errand, free, request)):
        raise OversizeError(f"{what}, which is enough for {other}")
    raise NoSpaceError(what, errand.target.folder, "make room, or choose files with --include")


def _fitting(errand: FileDownload, free: int, request: DownloadRequest) -> str | None:
    """Another hub's release for which there is room, by its sizes."""
    for door in errand.doors[1:]:
        try:
            theirs, chosen = _errand(door, (), request, errand.means)
        except ZooError:
            continue
        if all(file.size is not None for file in chosen) and sum(map(theirs.needs, chosen)) <= free:
            return door.release.id
    return None


def _probed(
    errand: FileDownload, chosen: Sequence[File], request: DownloadRequest
) -> tuple[FileDownload, Probe]:
    """With its doors in the order of their speed, if so much is to be fetched that it matters."""
    largest, settings = max(chosen, key=lambda file: file.size or 0), errand.means.settings
    ordered = request.source != AUTO or load_registry(settings).sources_for(settings)
    if ordered or len(errand.doors) == 1:
        return errand, Probe(errand.doors)
    if not (largest.identified and sum(map(errand.needs, chosen)) >= WORTH):
        return errand, Probe(errand.doors)
    probed = probe(errand.doors, largest, errand.means)
    for note in probed.notes:
        errand.means.progress.note(note)
    return replace(errand, order=probed.order), probed


def _fetch(errand: FileDownload, file: File) -> FileOutcome:
    """What was here counts as done, too."""
    got = errand.fetch(file)
    if got.changed is None:
        size = got.file.size or 0
        errand.means.progress.start(file.path, size, size)
        errand.means.progress.finish(file.path)
    return got


def _learned(errand: FileDownload, got: Sequence[FileOutcome]) -> LockedRelease:
    """The release with the sizes and digests that the download found."""
    release = errand.release
    found = {entry.file.path: entry for entry in got}
    files = tuple(found[file.path].file if file.path in found else file for file in release.files)
    if errand.candidate.locked is not None and not errand.candidate.planned:
        return replace(release, files=files)
    unfetched = (file for file in release.files if file.path not in found)
    vouched = all(map(_is_vouched, got)) and all(file.identified for file in unfetched)
    return replace(release, files=files, trust="hub" if vouched else "first-use")


def _answer(
    errand: FileDownload,
    release: LockedRelease,
    got: Sequence[FileOutcome],
    model: str,
    probed: Probe,
) -> DownloadResult:
    sources = dict(probed.services)
    for name, service in (item for entry in got for item in entry.services.items()):
        sources[name] = sources.get(name, SourceStatistics()) + service
    notes = [*errand.means.told, *probed.notes, *(note for entry in got for note in entry.notes)]
    notes += _closing_notes(release.hub, got)
    files = tuple(
        DownloadedFile(e.file.path, e.file.size, e.file.sha256, e.source, _taken_from(e))
        for e in sorted(got, key=lambda entry: entry.file.path)
    )
    return DownloadResult(
        model=model,
        hub=release.hub,
        repo=release.repo,
        revision=release.revision,
        format=release.format,
        path=errand.target.folder,
        files=files,
        fetched_bytes=_bytes(sources),
        reused_bytes=sum(entry.kept for entry in got),
        sources=sources,
        trust=release.trust,
        notes=tuple(dict.fromkeys(notes)),
    )


def _bytes(services: Mapping[str, SourceStatistics]) -> int:
    return sum(service.served for service in services.values())


def _taken_from(got: FileOutcome) -> Path | None:
    return got.spot.path if got.spot else None


def _closing_notes(hub: str, got: Sequence[FileOutcome]) -> list[str]:
    """Where files were taken from; what the digests of fetched ones stand on, if their hub has none."""
    bare = [entry for entry in got if entry.source is not None and not entry.listed.identified]
    counts = Counter(entry.voucher for entry in bare)
    return taken(entry.spot for entry in got) + [
        f"{hub} publishes no digests: {count} of the files "
        + (f"were compared with those of {voucher}" if voucher else "are trusted on first use")
        for voucher, count in counts.items()
    ]
