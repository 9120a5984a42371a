"""What the files of one run are brought with: opened once, closed at its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from internlm_zoo.caches.adopt import Adopter
from internlm_zoo.caches.find import caches_of
from internlm_zoo.downloads.candidates import Candidate, candidates, same_weights
from internlm_zoo.downloads.listings import Hubs
from internlm_zoo.downloads.request import DownloadRequest
from internlm_zoo.errors import ZooError
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.progress import Progress
from internlm_zoo.registry import load_registry
from internlm_zoo.registry.lock import Lock
from internlm_zoo.settings import Settings
from internlm_zoo.store.hash_cache import HashCache
from internlm_zoo.store.layout import Store
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.rate import rate_of


@dataclass(frozen=True)
class Session:
    """everywhere: all releases of the model, whatever the user asked for, to compare with. adopter: looks
    where the files may be already. cancel: the caller's event that ends it. failed: why no hub delivered a
    content in this run, by format and content. hub_notes: notes on the hubs that this run has met."""

    settings: Settings
    store: Store
    hubs: Hubs
    client: Client
    progress: Progress
    everywhere: Sequence[Candidate]
    adopter: Adopter
    cancel: threading.Event | None = None
    failed: dict[tuple[str | None, str], ZooError] = field(default_factory=dict)
    hub_notes: list[str] = field(default_factory=list)


@contextmanager
def open_session(
    request: DownloadRequest,
    settings: Settings,
    progress: Progress | None,
    *,
    cancel: threading.Event | None = None,
    keep: bool = True,
) -> Iterator[Session]:
    """keep: remember digests that are taken. Raises NotFoundError, UsageError for settings that make no
    sense."""
    progress, registry = progress or Progress(), load_registry(settings)
    model, wanted = registry.model(request.model), same_weights(request.format)
    everywhere = candidates(model, registry, Lock.load(settings), settings, wanted)
    names = (name for release in model.releases for name in release.names)
    hash_cache = HashCache(settings.home, keep=keep, fresh=request.force)
    caches = caches_of(settings, names, request.adopt)
    for note in caches.closed:
        progress.note(note)
    adopter = Adopter(caches, hash_cache, progress)
    retry_policy = RetryPolicy.of(settings)
    hub_notes: list[str] = []

    def tell(note: str) -> None:
        hub_notes.append(note)
        progress.note(note)

    client = Client(settings.environ, retry_policy, request.max_workers, rate_of(request.max_rate), tell)
    store, hubs = Store(settings.home), Hubs(settings, tell)
    try:
        yield Session(
            settings, store, hubs, client, progress, everywhere, adopter, cancel, hub_notes=hub_notes
        )
    finally:
        client.close()
