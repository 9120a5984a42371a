"""What a mirror file asks for: one shelf per model and format, and the names it is known by."""

from __future__ import annotations

from dataclasses import dataclass

from internlm_zoo.errors import NotFoundError, UsageError
from internlm_zoo.mirror.config import MirrorFile, chosen
from internlm_zoo.mirror.index import Name
from internlm_zoo.registry import Model, Registry, Release
from internlm_zoo.registry.release import Format
from internlm_zoo.settings import Settings
from internlm_zoo.sources.paths import check_path


@dataclass(frozen=True)
class Shelf:
    """One release that the mirror is to hold. path: its folder, `org/name`. names: what any hub calls it.
    releases: where it is to come from, first choice first."""

    model: str
    format: Format
    path: str
    names: tuple[Name, ...]
    releases: tuple[Release, ...]


@dataclass(frozen=True)
class Wanted:
    """left_out: models that a glob means and of which there is nothing to copy."""

    shelves: tuple[Shelf, ...]
    left_out: tuple[str, ...]


def wanted(mirror: MirrorFile, registry: Registry, settings: Settings) -> Wanted:
    """Raises NotFoundError for a model named in full of which no hub has a release, UsageError if two
    releases would lie in one folder."""
    shelves, left_out = [], []
    for name in chosen(mirror, registry):
        model = registry.models[name]
        found = [_shelf(model, format, mirror, registry, settings) for format in mirror.formats]
        shelves += [shelf for shelf in found if shelf]
        if not any(found):
            left_out.append(name)
    named = next((name for name in left_out if name in mirror.models), None)
    if named:
        formats, fix = " or ".join(mirror.formats), "choose other formats or hubs, or take it off the list"
        raise NotFoundError(f"{named} has no release in {formats} format that can be copied", None, fix)
    _check_folders(shelves)
    return Wanted(tuple(shelves), tuple(left_out))


def _shelf(
    model: Model, format: Format, mirror: MirrorFile, registry: Registry, settings: Settings
) -> Shelf | None:
    published = [release for release in model.releases if release.format == format]
    order = mirror.hubs or registry.sources_for(settings)
    order = order or tuple(dict.fromkeys(release.hub for release in published))
    usable = [
        release
        for hub in order
        for release in published
        if release.hub == hub and registry.hubs[hub].protocol is not None
    ]
    if not usable:
        return None
    names = tuple(Name(it.hub, repo) for it in published for repo in (it.repo, *it.also_listed_as))
    return Shelf(model.name, format, _folder(published), names, tuple(usable))


def _folder(releases: list[Release]) -> str:
    """The first name that is `org/name`, whichever hub is asked first, so that folders stay where they
    are."""
    repos = [release.repo for release in releases if release.repo.count("/") == 1]
    return repos[0] if repos else f"{releases[0].hub}/{releases[0].repo.replace('/', '--')}"


def _check_folders(shelves: list[Shelf]) -> None:
    by_path: dict[str, Shelf] = {}
    for shelf in shelves:
        check_path(shelf.path)
        other = by_path.setdefault(shelf.path.casefold(), shelf)
        if other is not shelf:
            what = f"{other.model} ({other.format}) and {shelf.model} ({shelf.format}) would both lie in"
            raise UsageError(f"{what} {shelf.path}", fix="mirror one of them, or into two destinations")
