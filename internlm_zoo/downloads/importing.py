"""Takes into the store what lies in folders of the user's: every file of a release that the lock knows."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from internlm_zoo.caches.adopt import Adopter
from internlm_zoo.caches.find import Caches, folders_of
from internlm_zoo.downloads.file import FileOutcome, adopt
from internlm_zoo.downloads.targets import StoreTarget
from internlm_zoo.files import File
from internlm_zoo.fs.contained import real
from internlm_zoo.fs.disk import disk
from internlm_zoo.progress import Progress
from internlm_zoo.registry import Registry, load_registry
from internlm_zoo.registry.lock import Lock, LockedRelease, record
from internlm_zoo.settings import Settings
from internlm_zoo.store.hash_cache import HashCache
from internlm_zoo.store.in_use import at_work
from internlm_zoo.store.layout import Store
from internlm_zoo.store.publish import publish_release
from internlm_zoo.store.record import Record, intact_record
from internlm_zoo.transfer.workers import work


@dataclass(frozen=True)
class ImportedFile:
    """A file of a release, and where it was found."""

    path: str
    size: int
    taken_from: Path


@dataclass(frozen=True)
class ImportedRelease:
    """What a release got (in a dry run: would). here: how many of its files the store has now, of `total`.
    completed: whether that is all, and was not before. path: its folder."""

    model: str
    release: LockedRelease
    taken: tuple[ImportedFile, ...]
    here: int
    completed: bool
    path: Path

    @property
    def total(self) -> int:
        return len(self.release.files)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.taken)


def import_folders(
    folders: Sequence[Path], *, settings: Settings, dry_run: bool = False, progress: Progress | None = None
) -> list[ImportedRelease]:
    """Look through folders for the files of all locked releases; those that are whole then are shown.

    In the answer is what got something, or is completed by what another release got. Raises UsageError if a
    folder is none, NoSpaceError.
    """
    registry, lock, store = load_registry(settings), Lock.load(settings), Store(settings.home)
    caches = Caches(real(settings.home), folders=folders_of(folders))
    progress = progress or Progress()
    adopter = Adopter(caches, HashCache(settings.home, keep=not dry_run), progress)
    with disk(settings.home), nullcontext() if dry_run else at_work(store, progress.note):
        looked = [_import(*known, store, adopter, dry_run) for known in _known(registry, lock)]
        releases = [imported for imported in looked if imported.taken or imported.completed]
        for imported in () if dry_run else releases:
            _show(imported, store, settings)
    return releases


def _known(registry: Registry, lock: Lock) -> Iterator[tuple[str, LockedRelease]]:
    """The locked releases of the registry's models, each once."""
    models = {
        (release.hub, repo): model.name
        for model in registry.models.values()
        for release in model.releases
        for repo in release.names
    }
    releases = {(release.id, release.revision): release for release in lock.releases}
    for release in releases.values():
        if (release.hub, release.repo) in models:
            yield models[release.hub, release.repo], release


def _import(
    model: str, release: LockedRelease, store: Store, adopter: Adopter, dry_run: bool
) -> ImportedRelease:
    folder = store.release(release.hub, release.repo, release.revision)
    target, stop = StoreTarget(store, folder, release, adopter.hash_cache), threading.Event()
    step = _guess if dry_run else _take
    jobs = [partial(step, file, target, adopter, stop) for file in release.files]
    found = list(filter(None, work(jobs, os.cpu_count() or 1, stop)))
    files = {file.path: file for file in (*release.files, *(entry.file for entry in found))}
    taken = ((entry.file, entry.copy) for entry in found if entry.copy)
    before = intact_record(folder)
    is_new = len(found) == len(release.files) and (before is None or not before.whole)
    return ImportedRelease(
        model,
        replace(release, files=tuple(files.values())),
        taken=tuple(ImportedFile(file.path, copy.size, copy.path) for file, copy in taken),
        here=len(found),
        completed=is_new and any(next(adopter.copies(file), None) for file in release.files),
        path=folder,
    )


def _guess(file: File, target: StoreTarget, adopter: Adopter, stop: threading.Event) -> FileOutcome | None:
    """What `_take` would do."""
    there = target.look(file)
    if there.sha256 is not None:
        return FileOutcome(file, file)
    copy = adopter.guess(file)
    return FileOutcome(file, file, copy=copy) if copy else None


def _take(file: File, target: StoreTarget, adopter: Adopter, stop: threading.Event) -> FileOutcome | None:
    """The file, if the store has it or gets it."""
    there = target.look(file)
    if there.sha256 is not None:
        return FileOutcome.here(file, there)
    try:
        return adopt(file, target, adopter, stop)
    finally:
        adopter.progress.finish(file.path)


def _show(imported: ImportedRelease, store: Store, settings: Settings) -> None:
    """Keep the digests that were found, and show the release if it is whole."""
    record(settings, imported.release)
    if imported.completed:
        model = load_registry(settings).model(imported.model)
        publish_release(store, imported.path, Record.of(model, imported.release, imported.total))
