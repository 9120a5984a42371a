"""Repairs a download: what is wrong in it is fetched again, by the blocks that are wrong where they are
known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from internlm_zoo.downloads.file import ReleaseDownload
from internlm_zoo.downloads.request import DownloadRequest
from internlm_zoo.downloads.result import Repaired
from internlm_zoo.downloads.session import Session, open_session
from internlm_zoo.downloads.targets import FolderTarget, StoreTarget, Target
from internlm_zoo.errors import IntegrityError
from internlm_zoo.files import File
from internlm_zoo.fs.contained import real
from internlm_zoo.fs.disk import disk
from internlm_zoo.progress import Progress
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.settings import Settings
from internlm_zoo.store.in_use import at_work
from internlm_zoo.store.layout import check_metadata
from internlm_zoo.store.record import read_record
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
    format = record.release.format
    request = DownloadRequest(record.model, format=format, max_workers=_CONNECTIONS, force=True)
    with (
        disk(folder),
        open_session(request, settings, progress) as session,
        at_work(session.store, session.progress.note),
    ):
        check_metadata(folder)
        everywhere = session.everywhere
        own = next((it for it in everywhere if it.offers(record.release)), everywhere[0])
        own = replace(own, locked=record.release)
        others = [candidate for candidate in everywhere if candidate.key != own.key]
        target = _target(folder, record.release, session)
        download = ReleaseDownload(own, others, record.release, files, request, target, session)
        jobs = [partial(download.fetch, file) for file in files]
        with download.work_sharing as work_sharing:
            repaired = work(jobs, _CONNECTIONS, download.stop, when_idle=work_sharing.take_part)
        checked = {outcome.file.path: outcome.changed for outcome in repaired if outcome.changed is not None}
        download.target.finish(replace(record, checked={**record.checked, **checked}))
    return tuple(
        Repaired(
            path=outcome.file.path,
            size=outcome.file.size or 0,
            kept=outcome.kept,
            served={name: source.served for name, source in outcome.statistics.items() if source.served},
        )
        for outcome in repaired
    )


def _target(folder: Path, release: LockedRelease, session: Session) -> Target:
    """What is there is hashed before it is believed."""
    if real(folder).is_relative_to(real(session.store.releases)):
        return StoreTarget(session.store, folder, release, session.adopter.hash_cache, force=True)
    return FolderTarget(session.store, folder, release, force=True)
