"""From what a user names, a model or a folder, to a folder with files; what is not here is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converters.formats.access import is_directory
from internlm_zoo.downloads.request import DownloadRequest
from internlm_zoo.downloads.run import download
from internlm_zoo.progress import Progress
from internlm_zoo.registry import Model, load_registry
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.settings import Settings
from internlm_zoo.store.locate import whole_releases
from internlm_zoo.store.record import intact_record, read_record


@dataclass(frozen=True)
class LocatedFolder:
    """model and release are None for a folder that `download` did not make."""

    path: Path
    model: Model | None
    release: LockedRelease | None


def find_model(
    name_or_dir: str | Path,
    *,
    settings: Settings,
    format: str | None = None,
    progress: Progress | None = None,
) -> LocatedFolder:
    """A folder as it is, or a model of the registry from the store, downloaded first if it is not there.

    format: None for whichever is here, hf before original, no quantised one. Raises what `download` raises.
    """
    registry = load_registry(settings)
    path = Path(name_or_dir)
    if is_directory(path):
        record = intact_record(path)
        model = registry.models.get(record.model) if record else None
        return LocatedFolder(path, model, record.release if record else None)
    model = registry.model(str(name_or_dir))
    if here := whole_releases(model.name, settings, format):
        return LocatedFolder(here[0].path, model, here[0].record.release)
    done = download(DownloadRequest(model.name, format=format), settings=settings, progress=progress)
    record = read_record(done.path)
    return LocatedFolder(done.path, model, record.release if record else None)
