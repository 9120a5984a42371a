"""Which releases of a model to try, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.errors import parameter
from internlm_zoo.errors import NotFoundError, UsageError
from internlm_zoo.net.addresses import WEB, parse_address
from internlm_zoo.registry import Hub, Model, Registry, Release
from internlm_zoo.registry.lock import Lock, LockedRelease
from internlm_zoo.registry.release import FORMAT_ORDER, QUANTISED
from internlm_zoo.settings import Settings
from internlm_zoo.sources import LISTS_DIGESTS

AUTO = "auto"


@dataclass(frozen=True)
class ReleaseFilter:
    """format: None for any that holds the model's own weights; a quantised one is taken by name only. source:
    auto, a hub's name, or a URL or directory that stands in for the hubs. revision: instead of the one that
    the registry names."""

    format: str | None = None
    source: str = AUTO
    revision: str | None = None

    def admits(self, release: Release) -> bool:
        return release.format == self.format or (self.format is None and not release.quantised)


@dataclass(frozen=True)
class Candidate:
    """One release of the model. asked: the revision the user or the registry names, None for the hub's
    default. locked: what the lock says it is. stands_in: the hub's place is taken by a URL or directory the
    user gave. planned: `locked` is what a plan says it is, and the lock does not know it yet."""

    hub: Hub
    release: Release
    asked: str | None
    locked: LockedRelease | None
    stands_in: bool = False
    planned: bool = False

    @property
    def publishes_digests(self) -> bool:
        """Whether its listing says what its files hash to, so that other content is told before it comes."""
        return self.hub.protocol in LISTS_DIGESTS

    @property
    def key(self) -> tuple[str, str | None, str, str | None]:
        return self.hub.name, self.hub.endpoint, self.release.repo, self.release.format

    def offers(self, release: LockedRelease) -> bool:
        """Whether this is where a release, of whatever revision, is from."""
        here = (self.hub.name, self.release.format) == (release.hub, release.format)
        return here and release.repo in self.release.names


def candidates(
    model: Model, registry: Registry, lock: Lock, settings: Settings, wanted: ReleaseFilter
) -> list[Candidate]:
    """In the order they are to be tried: what is in the package first, hf before original, then as the
    registry has them. If the user has an order of hubs, it counts, and there are no others. Raises
    NotFoundError if there are none."""
    order = registry.sources_for(settings)
    found = [
        candidate_of(hub, release, lock, wanted.revision, stands_in=stands_in)
        for hub, release, stands_in in _places(model, registry, order, wanted.source)
        if wanted.admits(release)
    ]
    if not found:
        raise _missing(model, wanted.format, wanted.source)

    def rank(candidate: Candidate) -> tuple[bool, int]:
        """What takes no network first, unless the user has an order of their own."""
        is_far = not order and candidate.hub.protocol != "directory"
        return is_far, FORMAT_ORDER[candidate.release.format]

    return sorted(found, key=rank)


def same_weights(format: str | None) -> ReleaseFilter:
    """All releases with the weights of this format."""
    return ReleaseFilter(format if format in QUANTISED else None)


def candidate_of(
    hub: Hub, release: Release, lock: Lock, revision: str | None, *, stands_in: bool = False
) -> Candidate:
    """revision: instead of the one that the registry names."""
    asked = revision or release.revision
    return Candidate(hub, release, asked, _locked(lock, hub, release, asked), stands_in)


def _places(
    model: Model, registry: Registry, order: Sequence[str], source: str
) -> Iterator[tuple[Hub, Release, bool]]:
    """Hub, release, and whether the hub is one that stands in."""
    here = is_place(source)
    if here or (source == AUTO and not order):
        names = tuple(dict.fromkeys(release.hub for release in model.releases))
    else:
        names = tuple(order) if source == AUTO else (source,)
    for hub in map(registry.hub, names):
        listed = hub if hub.protocol is not None or source != AUTO else None
        place = _stand_in(hub, source) if here else listed
        for release in model.releases if place else ():
            if place and release.hub == hub.name:
                yield place, release, here


def is_place(source: str) -> bool:
    """Whether a source is a URL or a directory and not a hub's name."""
    return "://" in source or Path(source).is_dir()


def _stand_in(hub: Hub, source: str) -> Hub | None:
    """The hub, found somewhere else, where none of its credentials go; None if it does not speak HTTP."""
    scheme = source.split("://", 1)[0].lower() if "://" in source else "file"
    if scheme not in ("file", "http", "https"):
        raise UsageError(f"{parameter('source', source)} is neither a hub, a directory nor an http(s) URL")
    if scheme != "file" and hub.protocol in (None, "directory"):
        return None
    if scheme != "file":
        parse_address(source, "`source`", WEB)
    protocol = "directory" if scheme == "file" else hub.protocol
    where = {"endpoint": source, "endpoint_env": (), "stated_in": None}  # but by who runs the command
    return hub.model_copy(update={**where, "protocol": protocol, "token_env": ()})


def _locked(lock: Lock, hub: Hub, release: Release, asked: str | None) -> LockedRelease | None:
    return next(filter(None, (lock.find(hub.name, name, asked) for name in release.names)), None)


def _missing(model: Model, format: str | None, source: str) -> NotFoundError:
    what = f"{model.name} has no release" + (f" in {format} format" if format else "")
    where = "" if source == AUTO or is_place(source) else f" on {source}"
    has = "; ".join(f"{release.id} ({release.format or 'format unknown'})" for release in model.releases)
    return NotFoundError(what + where, fix=f"it has {has}" if has else "the registry knows no release of it")
