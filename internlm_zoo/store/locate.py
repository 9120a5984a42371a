"""What the store has of a model, and which files belong into a folder that a download made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from converters.formats.access import is_directory
from internlm_zoo.errors import IntegrityError, NotFoundError, UnsupportedError, UsageError
from internlm_zoo.files import File
from internlm_zoo.registry import Model, load_registry
from internlm_zoo.registry.lock import Lock
from internlm_zoo.registry.release import FORMAT_ORDER, QUANTISED
from internlm_zoo.settings import Settings
from internlm_zoo.store.inventory import StoredRelease, inventory
from internlm_zoo.store.layout import Store
from internlm_zoo.store.record import read_record


def whole_releases(model: str, settings: Settings, format: str | None = None) -> list[StoredRelease]:
    """Whole releases in the store. format: None for the model's own weights in any format."""
    formats = FORMAT_ORDER.keys() - QUANTISED if format is None else {format}
    whole = (one for one in stored_releases(model, settings) if one.record.whole)
    return [one for one in whole if one.record.release.format in formats]


def stored_releases(model: str, settings: Settings) -> list[StoredRelease]:
    """What the store has of a model: hf before original, what is locked before other revisions."""
    lock = lock_or_none(settings)

    def rank(holding: StoredRelease) -> tuple[int, bool]:
        release = holding.record.release
        locked = lock.find(release.hub, release.repo, release.requested)
        return FORMAT_ORDER[release.format], locked is None or locked.revision != release.revision

    stored = inventory(Store(settings.home)).holdings
    return sorted((one for one in stored if one.record.model == model), key=rank)


def downloads_of(name_or_dir: str, settings: Settings) -> list[Path]:
    """The folder itself, or the folders in the store that hold something of a model. Raises NotFoundError."""
    if is_directory(name_or_dir):
        return [Path(name_or_dir)]
    model = load_registry(settings).model(name_or_dir)
    found = [holding.path for holding in stored_releases(model.name, settings)]
    found += [one.path for one in inventory(Store(settings.home)).unread if _is_of(one.path, model)]
    if not found:
        fix = f"internlm-zoo download {model.name}"
        raise NotFoundError(f"{model.name} is not in the store", settings.home, fix)
    return found


def _is_of(folder: Path, model: Model) -> bool:
    """Whether a folder in the store is of a release of the model, by its place."""
    return any(
        folder.match(f"{release.hub}/{repo.replace('/', '--')}/*")
        for release in model.releases
        for repo in release.names
    )


def lock_or_none(settings: Settings, note: Callable[[str], None] = lambda _: None) -> Lock:
    """The lock, or an empty one, and a word about it, if it cannot be read: what is in the store has its own
    records."""
    try:
        return Lock.load(settings)
    except (UsageError, UnsupportedError) as error:  # RegistryError is one of the first kind
        note(f"nothing is held against the lock: {error}")
        return Lock()


def expected_files(folder: Path, lock: Lock) -> tuple[File, ...]:
    """The files that a download put into a folder, with the lock's digests where it has the release.

    Raises NotFoundError if nothing says what should be there.
    """
    record = read_record(folder)
    if record is None:
        fix = "folders made by `internlm-zoo download` can be verified"
        raise NotFoundError("nothing says what should be in this folder", folder, fix)
    if not record.release.files:
        what = "the download into this folder is not finished"
        raise NotFoundError(what, folder, "run it again, it goes on")
    release = record.release
    locked = lock.find(release.hub, release.repo, release.revision)
    if locked is None or locked.revision != release.revision:
        return release.files
    return tuple(_by_lock(file, locked.file(file.path), folder) for file in release.files)


def _by_lock(file: File, locked: File | None, folder: Path) -> File:
    if locked is None:
        raise IntegrityError(f"{file.path} is not in the release by the lock", folder)
    return locked.completed_by(file)
