"""What a mirror file asks for: one entry per model and format, and the names it is known by."""

from __future__ import annotations

from dataclasses import dataclass, replace

from internlm_zoo.downloads.candidates import AUTO, Candidate, ReleaseFilter, candidates, is_place
from internlm_zoo.errors import NotFoundError
from internlm_zoo.mirror.config import MirrorFile, chosen
from internlm_zoo.registry import Model, Registry, Release
from internlm_zoo.registry.lock import Lock
from internlm_zoo.registry.release import Format
from internlm_zoo.settings import Settings
from internlm_zoo.store.mirror_index import HubName


@dataclass(frozen=True)
class MirrorEntry:
    """One release that the mirror is to hold. path: its folder, `org/name`. names: what any hub calls it.
    candidates: where it is to come from, first choice first."""

    model: str
    format: Format
    path: str
    names: tuple[HubName, ...]
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class MirrorEntries:
    """left_out: models of which there is nothing to copy."""

    entries: tuple[MirrorEntry, ...]
    left_out: tuple[str, ...]


def wanted(mirror: MirrorFile, registry: Registry, settings: Settings, source: str = AUTO) -> MirrorEntries:
    """source: see RunOptions. Raises NotFoundError for a hub that there is not."""
    settings = replace(settings, sources=mirror.hubs or settings.sources)
    for hub in settings.sources if source == AUTO or is_place(source) else (source,):
        registry.hub(hub)
    entries, left_out = [], []
    for name in chosen(mirror, registry):
        found = [_entry(registry.models[name], it, registry, settings, source) for it in mirror.formats]
        entries += [entry for entry in found if entry]
        if not any(found):
            left_out.append(name)
    return MirrorEntries(tuple(entries), tuple(left_out))


def _entry(
    model: Model, format: Format, registry: Registry, settings: Settings, source: str
) -> MirrorEntry | None:
    published = [release for release in model.releases if release.format == format]
    try:
        places = candidates(model, registry, Lock(), settings, ReleaseFilter(format, source))
    except NotFoundError:
        return None
    names = tuple(HubName(it.hub, repo) for it in published for repo in it.names)
    return MirrorEntry(model.name, format, _folder(published), names, tuple(places))


def _folder(releases: list[Release]) -> str:
    """The first name that is `org/name`, whichever hub is asked first, so that folders stay where they
    are."""
    repos = [release.repo for release in releases if release.repo.count("/") == 1]
    return repos[0] if repos else f"{releases[0].hub}/{releases[0].repo.replace('/', '--')}"
