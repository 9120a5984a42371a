"""From what a user names, a model or a folder, to a folder with files; what is not here is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from converters.formats.access import is_directory
from converters.source.model_identity import ModelIdentity
from internlm_zoo.downloads.request import DownloadRequest
from internlm_zoo.downloads.run import download
from internlm_zoo.progress import Progress
from internlm_zoo.registry import Model, Registry, load_registry
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.settings import Settings
from internlm_zoo.store.locate import whole_releases
from internlm_zoo.store.record import Record, intact_record, read_record


@dataclass(frozen=True)
class LocatedFolder:
    """model, release and identity are None for a folder that `download` did not make. identity: what its
    record says of the model, which the registry need not have."""

    path: Path
    model: Model | None
    release: LockedRelease | None
    identity: ModelIdentity | None = None


def find_model(
    name_or_dir: str | Path,
    *,
    settings: Settings,
    format: str | None = None,
    progress: Progress | None = None,
    before: Callable[[], None] = lambda: None,
) -> LocatedFolder:
    """A folder as it is, or a model of the registry from the store, downloaded first if it is not there.

    format: None for whichever is here, hf before original, no quantised one. before: is called if it is to be
    downloaded, to raise what would make that useless. Raises what `download` raises.
    """
    registry = load_registry(settings)
    path = Path(name_or_dir)
    if is_directory(path):
        return _located(path, registry, intact_record(path))
    model = registry.model(str(name_or_dir))
    if here := whole_releases(model.name, settings, format):
        return _located(here[0].path, registry, here[0].record)
    before()
    done = download(DownloadRequest(model.name, format=format), settings=settings, progress=progress)
    return _located(done.path, registry, read_record(done.path))


def _located(path: Path, registry: Registry, record: Record | None) -> LocatedFolder:
    if record is None:
        return LocatedFolder(path, None, None)
    model = registry.models.get(record.model)
    kind = record.kind or (model.kind if model else None)
    identity = ModelIdentity(record.model, kind, record.fingerprint) if kind else None
    return LocatedFolder(path, model, record.release, identity)
