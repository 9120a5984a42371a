"""Brings the chosen files of one release to where they are wanted, and shows them when all are checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from converters.system.filesystem import best_effort, room
from internlm_zoo.caches.find import copy_notes
from internlm_zoo.downloads.candidates import AUTO, Candidate
from internlm_zoo.downloads.file import FileOutcome, ReleaseDownload
from internlm_zoo.downloads.listings import as_release
from internlm_zoo.downloads.plan import DownloadPlan, PlannedFile
from internlm_zoo.downloads.probe import WORTH, probe
from internlm_zoo.downloads.request import DownloadRequest
from internlm_zoo.downloads.result import DownloadedFile, DownloadResult
from internlm_zoo.downloads.session import Session
from internlm_zoo.downloads.targets import FolderTarget, StoreTarget
from internlm_zoo.errors import NoSpaceError, OversizeError, ZooError
from internlm_zoo.files import File
from internlm_zoo.registry import load_registry
from internlm_zoo.registry.lock import LockedRelease, record
from internlm_zoo.store.name_clashes import check_twins
from internlm_zoo.store.record import Record, intact_record
from internlm_zoo.transfer.values import SourceStatistics
from internlm_zoo.transfer.workers import work


def fetch_release(
    candidate: Candidate, others: Sequence[Candidate], request: DownloadRequest, session: Session
) -> DownloadResult:
    """others: where else the same bytes may be. Raises what `download` does, about this one release."""
    download = _release_download(candidate, others, request, session)
    release, target = download.release, download.target
    target.begin(request.model)
    _check_names(download)
    _check_space(download)
    download = _probed(download)
    session.progress.plan(len(download.files), replace(release, files=tuple(download.files)).size)
    # Or it might begin when all others are done.
    largest_first = sorted(download.files, key=lambda file: -(file.size or 0))
    jobs = [partial(_fetch, download, file) for file in largest_first]
    with download.work_sharing as work_sharing:
        outcomes = work(jobs, request.max_workers, download.stop, session.cancel, work_sharing.take_part)
    release = _learned(download, outcomes)
    here = tuple(entry.file for entry in sorted(outcomes, key=lambda entry: entry.file.path))
    checked = {entry.file.path: entry.changed for entry in outcomes if entry.changed is not None}
    model = load_registry(session.settings).model(request.model)
    target.finish(Record.of(model, replace(release, files=here), len(release.files), checked))
    if (release != candidate.locked or candidate.planned) and not candidate.stands_in:
        _lock(release, session)
    for note in _closing_notes(release.hub, outcomes):
        session.progress.note(note)
    return _answer(download, release, outcomes)


def _lock(release: LockedRelease, session: Session) -> None:
    """Where the store's home takes nothing, a download to another place goes without."""

    def note(error: OSError) -> None:
        place = error.filename or session.settings.home
        session.progress.note(f"{release.id} could not be locked: {error.strerror} ({place})")

    with best_effort(note):
        record(session.settings, release)


def plan_release(
    candidate: Candidate, others: Sequence[Candidate], request: DownloadRequest, session: Session
) -> DownloadPlan:
    """What `fetch_release` would do; nothing is written."""
    download = _release_download(candidate, others, request, session)
    outcomes = [download.plan(file) for file in sorted(download.files, key=lambda file: file.path)]
    files = tuple(
        PlannedFile(e.file.path, e.file.size, e.file.sha256, e.source, _taken_from(e), _bytes(e.statistics))
        for e in outcomes
    )
    notes = (*session.hub_notes, *_closing_notes(download.release.hub, outcomes))
    return DownloadPlan(files, download.target.folder, download.release, request, notes)


def _is_verified(outcome: FileOutcome) -> bool:
    return outcome.listed.identified or outcome.verified_by is not None


def _release_download(
    candidate: Candidate, others: Sequence[Candidate], request: DownloadRequest, session: Session
) -> ReleaseDownload:
    release = candidate.locked or as_release(candidate, session.hubs.snapshot(candidate))
    target, files = _target(release, request, session), request.selection.of(release)
    return ReleaseDownload(candidate, others, release, files, request, target, session)


def _target(release: LockedRelease, request: DownloadRequest, session: Session) -> StoreTarget | FolderTarget:
    if request.local_dir is not None:
        return FolderTarget(session.store, request.local_dir.absolute(), release, request.force)
    folder = session.store.release(release.hub, release.repo, release.revision)
    return StoreTarget(session.store, folder, release, session.adopter.hash_cache, request.force)


def _check_names(download: ReleaseDownload) -> None:
    """That each file has a place of its own, also beside those that came before."""
    folder = download.target.folder
    there = intact_record(folder)
    before = there.release.files if there else ()
    check_twins(folder, download.target.partial, {file.path for file in (*before, *download.files)})


def _check_space(download: ReleaseDownload) -> None:
    """Better now than after hours. Raises NoSpaceError; OversizeError where that is one hub's word alone."""
    needed = sum(map(download.needs, download.files))
    free = room(download.target.partial)
    if free is None or needed <= free:
        return
    what = f"{download.release.id} needs {needed:,} more bytes and the disk has {free:,}"
    if download.candidate.locked is None and (other := _fitting(download, free)):
        raise OversizeError(f"{what}, which is enough for {other}")
    raise NoSpaceError(what, download.target.folder, "make room, or choose files with `include`")


def _fitting(download: ReleaseDownload, free: int) -> str | None:
    """Another hub's release for which there is room, by its sizes."""
    for candidate in download.candidates[1:]:
        try:
            theirs = _release_download(candidate, (), download.request, download.session)
        except ZooError:
            continue
        sized = all(file.size is not None for file in theirs.files)
        if sized and sum(map(theirs.needs, theirs.files)) <= free:
            return candidate.release.id
    return None


def _probed(download: ReleaseDownload) -> ReleaseDownload:
    """With its candidates in the order of their speed, if so much is to be fetched that it matters."""
    largest, settings = max(download.files, key=lambda file: file.size or 0), download.session.settings
    ordered = download.request.source != AUTO or load_registry(settings).sources_for(settings)
    if ordered or len(download.candidates) == 1 or not largest.identified:
        return download
    if sum(map(download.needs, download.files)) < WORTH:
        return download
    probed = probe(download.candidates, largest, download.session)
    for note in probed.notes:
        download.session.progress.note(note)
    return replace(download, probe=probed)


def _fetch(download: ReleaseDownload, file: File) -> FileOutcome:
    """What was here counts as done, too."""
    outcome = download.fetch(file)
    if outcome.changed is None:
        size = outcome.file.size or 0
        download.session.progress.start(file.path, size, size)
        download.session.progress.finish(file.path)
    return outcome


def _learned(download: ReleaseDownload, outcomes: Sequence[FileOutcome]) -> LockedRelease:
    """The release with the sizes and digests that the download found."""
    release = download.release
    found = {entry.file.path: entry for entry in outcomes}
    files = tuple(found[file.path].file if file.path in found else file for file in release.files)
    if download.candidate.locked is not None and not download.candidate.planned:
        return replace(release, files=files)
    unfetched = (file for file in release.files if file.path not in found)
    verified = all(map(_is_verified, outcomes)) and all(file.identified for file in unfetched)
    return replace(release, files=files, trust="hub" if verified else "first-use")


def _answer(
    download: ReleaseDownload, release: LockedRelease, outcomes: Sequence[FileOutcome]
) -> DownloadResult:
    sources = dict(download.probe.statistics)
    for name, source in (item for entry in outcomes for item in entry.statistics.items()):
        sources[name] = sources.get(name, SourceStatistics()) + source
    notes = [
        *download.session.hub_notes,
        *download.probe.notes,
        *(note for entry in outcomes for note in entry.notes),
        *_closing_notes(release.hub, outcomes),
    ]
    files = tuple(
        DownloadedFile(e.file.path, e.file.size, e.file.sha256, e.source, _taken_from(e))
        for e in sorted(outcomes, key=lambda entry: entry.file.path)
    )
    return DownloadResult(
        model=download.request.model,
        hub=release.hub,
        repo=release.repo,
        revision=release.revision,
        format=release.format,
        path=download.target.folder,
        files=files,
        fetched_bytes=_bytes(sources),
        reused_bytes=sum(entry.kept for entry in outcomes),
        sources=sources,
        trust=release.trust,
        notes=tuple(dict.fromkeys(notes)),
    )


def _bytes(statistics: Mapping[str, SourceStatistics]) -> int:
    return sum(source.served for source in statistics.values())


def _taken_from(outcome: FileOutcome) -> Path | None:
    return outcome.copy.path if outcome.copy else None


def _closing_notes(hub: str, outcomes: Sequence[FileOutcome]) -> list[str]:
    """Where files were taken from; what the digests of fetched ones stand on, if their hub has none."""
    bare = [entry for entry in outcomes if entry.source is not None and not entry.listed.identified]
    counts = Counter(entry.verified_by for entry in bare)
    return copy_notes(entry.copy for entry in outcomes) + [
        f"{hub} publishes no digests: {count} of the files "
        + (f"were compared with those of {verified_by}" if verified_by else "are trusted on first use")
        for verified_by, count in counts.items()
    ]
