"""Asks the hubs what they have for each shelf: the first that answers is enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from internlm_zoo.errors import NetworkError, NoSpaceError, ZooError
from internlm_zoo.mirror.planning import Offer
from internlm_zoo.mirror.wanted import Shelf
from internlm_zoo.registry import Registry
from internlm_zoo.settings import Settings
from internlm_zoo.store.candidates import Candidate
from internlm_zoo.store.hubs import Hubs
from internlm_zoo.store.layout import is_ours

_WORKERS = 8


@dataclass(frozen=True)
class Ways:
    """How the files of one shelf can be had. hubs: each is asked once per run, and then remembered. silent:
    hubs that answered nobody, whatever the shelf."""

    shelf: Shelf
    candidates: tuple[Candidate, ...]
    hubs: Hubs
    silent: dict[str, NetworkError]


def ways_to(shelves: Iterable[Shelf], registry: Registry, settings: Settings) -> dict[str, Ways]:
    """By path. Nothing is asked yet."""
    silent: dict[str, NetworkError] = {}
    return {
        shelf.path: Ways(shelf, _candidates(shelf, registry), Hubs(settings), silent) for shelf in shelves
    }


def survey(ways: Mapping[str, Ways]) -> dict[str, Offer]:
    """Offers by path; several shelves are asked for at a time."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        return dict(zip(ways, pool.map(ask, ways.values()), strict=True))


def ask(ways: Ways, failures: Mapping[str, ZooError] | None = None) -> Offer:
    """What the first hub has that answers and is not among the failures."""
    failed = dict(failures or {})
    for candidate in ways.candidates:
        hub = candidate.hub.name
        if hub in failed:
            continue
        try:
            return _offer(ways, candidate, failed)
        except NoSpaceError:
            raise
        except ZooError as error:
            failed[hub] = error
            if isinstance(error, NetworkError):
                ways.silent[hub] = error
    return Offer(None, failed)


def _offer(ways: Ways, candidate: Candidate, failed: Mapping[str, ZooError]) -> Offer:
    if candidate.hub.name in ways.silent:
        raise ways.silent[candidate.hub.name]
    snapshot = ways.hubs.snapshot(candidate)
    files = tuple(file for file in snapshot.files if not is_ours(file.path))
    return Offer(replace(snapshot, files=files), dict(failed))


def _candidates(shelf: Shelf, registry: Registry) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(registry.hub(release.hub), release, release.revision, None) for release in shelf.releases
    )
