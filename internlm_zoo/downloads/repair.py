"""Mends a download: what is wrong in it is fetched again, by the blocks that are wrong where they are
known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from internlm_zoo.downloads.candidates import AUTO, Candidate, candidates, same_weights
from internlm_zoo.downloads.file import FileDownload
from internlm_zoo.downloads.request import DownloadRequest
from internlm_zoo.downloads.result import Repaired
from internlm_zoo.downloads.session import Session, open_session
from internlm_zoo.downloads.targets import FolderTarget, StoreTarget, Target
from internlm_zoo.errors import IntegrityError
from internlm_zoo.files import File
from internlm_zoo.fs.contained import real
from internlm_zoo.fs.homes import disk
from internlm_zoo.progress import Progress
from internlm_zoo.registry import load_registry
from internlm_zoo.registry.lock import Lock, LockedRelease
from internlm_zoo.settings import Settings
from internlm_zoo.store.in_use import at_work
from internlm_zoo.store.layout import check_books
from internlm_zoo.store.record import Record, read_record
from internlm_zoo.transfer.workers import work

_CONNECTIONS = 8


def repair(
    folder: Path, files: Sequence[File], settings: Settings, progress: Progress | None = None
) -> tuple[Repaired, ...]:
    """Make these files of a download right again, from any hub that has them. The damaged ones stay until
    then.

    files: as they should be. Raises what `download` raises.
    """
    record = read_record(folder)
    if record is None:
        raise IntegrityError("there is no record of the download", folder, "download it again")
    own, everywhere = _doors(record, settings)
    request = DownloadRequest(record.model, max_workers=_CONNECTIONS, force=True)
    others = [door for door in everywhere if door.key != own.key]
    with (
        disk(folder),
        open_session(request, everywhere, settings, progress) as means,
        at_work(means.store, means.progress.note),
    ):
        check_books(folder)
        errand = FileDownload(own, others, record.release, _target(folder, record.release, means), means)
        jobs = [partial(errand.fetch, file) for file in files]
        with errand.work_sharing as work_sharing:
            mended = work(jobs, _CONNECTIONS, errand.stop, when_idle=work_sharing.take_part)
        checked = {got.file.path: got.changed for got in mended if got.changed is not None}
        errand.target.finish(replace(record, checked={**record.checked, **checked}))
    return tuple(
        Repaired(
            path=got.file.path,
            size=got.file.size or 0,
            kept=got.kept,
            served={name: service.served for name, service in got.services.items() if service.served},
        )
        for got in mended
    )


def _doors(record: Record, settings: Settings) -> tuple[Candidate, list[Candidate]]:
    """The hub that the download was of, and all that may have the same bytes."""
    registry, lock = load_registry(settings), Lock.load(settings)
    entry = registry.model(record.model)
    format = same_weights(record.release.format)
    everywhere = candidates(entry, registry, lock, settings, format=format, source=AUTO, revision=None)
    own = next((door for door in everywhere if _is_of(door, record.release)), everywhere[0])
    return replace(own, locked=record.release), everywhere


def _is_of(door: Candidate, release: LockedRelease) -> bool:
    names = (door.release.repo, *door.release.also_listed_as)
    return door.hub.name == release.hub and release.repo in names and door.release.format == release.format


def _target(folder: Path, release: LockedRelease, means: Session) -> Target:
    """What is there is hashed before it is believed."""
    if real(folder).is_relative_to(real(means.store.releases)):
        return StoreTarget(means.store, folder, release, means.adopter.ledger, force=True)
    return FolderTarget(means.store, folder, release, force=True)
