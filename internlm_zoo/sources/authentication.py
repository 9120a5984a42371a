"""What a hub is told of its user, until it rejects that: then it is asked without, and that is said.

An expired token shuts even what is public: Hugging Face answers 401 to whoever sends one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from internlm_zoo.errors import AccessError, ZooError
from internlm_zoo.secret import Secret
from internlm_zoo.sources.base import Location, Snapshot, Source

T = TypeVar("T")


class Credentials:
    """The credentials for one hub. secrets: one, or for OpenXLab two; none: anonymous. note: what its user
    should know of where they were looked for. Thread-safe."""

    def __init__(self, hub: str, secrets: Sequence[Secret] = (), note: str | None = None) -> None:
        self.values = tuple(secret.value for secret in secrets)
        self.is_rejected = not secrets
        self.notes: tuple[str, ...] = (note,) if note else ()
        self._hub = hub
        self.origin = " and ".join(dict.fromkeys(secret.origin for secret in secrets))
        self._what, self._it = ("keys", "them") if len(secrets) > 1 else ("token", "it")
        self._lock = threading.Lock()

    def reject(self) -> str | None:
        """Send them no more. What there is to say of it, if nobody has yet."""
        with self._lock:
            if self.is_rejected:
                return None
            self.is_rejected = True
            note = (
                f"{self._hub} rejects the {self._what} from {self.origin}, and works without: "
                f"renew {self._it}, or unset {self._it}"
            )
            self.notes += (note,)
            return note

    def explain(self, refused: ZooError) -> ZooError:
        """The refusal, where nothing was had without them either."""
        what = f"{refused.what}; the {self._what} from {self.origin} was sent, and rejected"
        fix = f"renew the {self._what}, or {refused.fix}" if refused.fix else f"renew the {self._what}"
        return type(refused)(what, refused.where, fix)


@dataclass
class AuthenticatedSource:
    """See `Source`. known: asks with the credentials. open_anonymous: opens one that has none."""

    credentials: Credentials
    known: Source
    open_anonymous: Callable[[], Source]

    def resolve(self, repo: str, revision: str | None = None) -> Snapshot:
        found = self._ask(lambda source: source.resolve(repo, revision))
        return replace(found, notes=(*found.notes, *self.credentials.notes))

    def locate(self, snapshot: Snapshot, path: str) -> Location:
        location = self._ask(lambda source: source.locate(snapshot, path))
        return replace(location, credentials=self.credentials) if location.headers else location

    def _ask(self, question: Callable[[Source], T]) -> T:
        if self.credentials.is_rejected:
            return question(self._anonymous)
        try:
            return question(self.known)
        except AccessError as refused:
            try:
                found = question(self._anonymous)
            except ZooError:
                raise self.credentials.explain(refused) from refused
        self.credentials.reject()
        return found

    @cached_property
    def _anonymous(self) -> Source:
        return self.open_anonymous()
