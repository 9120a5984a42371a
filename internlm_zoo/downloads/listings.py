"""What the hubs have now, compared with what is wanted: asked once per run, and only when bytes are
missing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from internlm_zoo.downloads.candidates import Candidate
from internlm_zoo.errors import (
    AccessError,
    CredentialError,
    IntegrityError,
    NotFoundError,
    UsageError,
    VariableError,
    ZooError,
)
from internlm_zoo.files import File
from internlm_zoo.registry import Hub
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.settings import Settings
from internlm_zoo.sources import open_source, resolve_by
from internlm_zoo.sources.base import Location, Snapshot, Source, is_listing
from internlm_zoo.sources.endpoints import endpoint_of
from internlm_zoo.sources.lock_update import locked
from internlm_zoo.store.layout import is_ours


class Hubs:
    """The hubs as this run has met them: each is asked once, and an answer, or a failure, is kept.
    Thread-safe."""

    def __init__(self, settings: Settings, tell: Callable[[str], None] = lambda note: None) -> None:
        """tell: whom to tell what a person should know of an answer."""
        self._settings = settings
        self._tell = tell
        self._noted: set[str] = set()
        self._turns: dict[object, threading.Lock] = {}
        self._opening = threading.Lock()
        self._sources: dict[tuple[str, str | None], Source] = {}
        self._answers: dict[tuple[str, str | None, str, str | None], Snapshot | ZooError] = {}

    def source(self, hub: Hub) -> Source:
        """Raises UnsupportedError, or NetworkError in offline mode."""
        with self._opening:
            endpoint = hub.name, hub.endpoint
            if endpoint not in self._sources:
                self._sources[endpoint] = open_source(hub, self._settings)
            return self._sources[endpoint]

    def snapshot(self, candidate: Candidate) -> Snapshot:
        """What the hub has now for a candidate. Raises NotFoundError, AccessError, NetworkError,
        IntegrityError."""
        with self._turns.setdefault(candidate.key, threading.Lock()):  # nobody else's question waits for it
            if candidate.key not in self._answers:
                try:
                    self._answers[candidate.key] = self._ask(candidate)
                except ZooError as error:
                    self._answers[candidate.key] = error
            answer = self._answers[candidate.key]
        if isinstance(answer, ZooError):
            raise answer
        for note in answer.notes:
            if note not in self._noted:
                self._noted.add(note)
                self._tell(note)
        return answer

    def locate(self, candidate: Candidate, file: File) -> Location:
        """Where the candidate's hub has these very bytes. Raises NotFoundError if it has others under that
        path, or IntegrityError if by the lock it should have these."""
        snapshot = self.snapshot(candidate)
        theirs = snapshot.file(file.path)
        conflict = None if theirs is None else file.conflict(theirs)
        if theirs is None or conflict:
            has = f"another {file.path} ({conflict})" if conflict else f"no {file.path}"
            reason = f"{candidate.hub.name} has {has}"
            if candidate.locked is not None and candidate.locked.file(file.path) == file:
                again = "plan it again" if candidate.planned else "record it anew: internlm-zoo lock"
                what = f"{reason}, not what is {'planned' if candidate.planned else 'locked'}"
                fix = f"if the release was changed on purpose, {again}"
                raise IntegrityError(what, candidate.locked.id, fix)
            raise NotFoundError(reason)
        revision = candidate.locked.revision if candidate.locked else None
        if candidate.planned and not file.identified and revision != snapshot.revision:
            what = f"{candidate.hub.name} lists something else than when it was planned"
            raise IntegrityError(what, candidate.release.id, "plan it again")
        location = self.source(candidate.hub).locate(snapshot, file.path)
        _check_scheme(location, candidate.hub, self._settings)
        return location

    def _ask(self, candidate: Candidate) -> Snapshot:
        """A locked release is asked for by its revision, unless that is only our name for a listing or the
        hub is one that stands in; then its files are compared with the lock one by one."""
        locked, release, asked = candidate.locked, candidate.release, candidate.asked
        if locked is not None:
            release = release.model_copy(update={"repo": locked.repo, "also_listed_as": ()})
            asked = candidate.asked if candidate.stands_in or is_listing(locked.revision) else locked.revision
        try:
            return resolve_by(self.source(candidate.hub), release, asked)
        except (CredentialError, VariableError):
            raise
        except UsageError as error:  # a name that cannot be one of its own, say: another hub may do
            raise AccessError(error.what, error.where, error.fix) from error


def as_release(candidate: Candidate, snapshot: Snapshot) -> LockedRelease:
    """A listing as it goes into the lock, before anything was fetched."""
    files = tuple(file for file in snapshot.files if not is_ours(file.path))
    release = locked(replace(snapshot, files=files), candidate.release.format)
    return replace(release, requested=candidate.asked)


def _check_scheme(location: Location, hub: Hub, settings: Settings) -> None:
    """Only a directory may name a file of this machine, and nobody may lead from https to http."""
    scheme = urlsplit(location.url).scheme
    endpoint = urlsplit(endpoint_of(hub, settings.environ) or "").scheme
    remote = {"https"} if endpoint == "https" else {"http", "https"}
    allowed = {"file"} if hub.protocol == "directory" else remote
    if scheme not in allowed:
        raise IntegrityError(f"{hub.name} gives a {scheme} address for a file, which is refused")
