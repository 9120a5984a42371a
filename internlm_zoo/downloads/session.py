"""Opens what a download works with, and closes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from internlm_zoo.caches.adopt import Adopter
from internlm_zoo.caches.find import caches_of
from internlm_zoo.downloads.candidates import Candidate
from internlm_zoo.downloads.listings import Hubs
from internlm_zoo.downloads.values import Session
from internlm_zoo.net.retry_policy import RetryPolicy
from internlm_zoo.progress import Progress
from internlm_zoo.registry import Model
from internlm_zoo.settings import Settings
from internlm_zoo.store.hash_cache import HashCache
from internlm_zoo.store.layout import Store
from internlm_zoo.transfer.client import Client
from internlm_zoo.transfer.rate import rate_of


@contextmanager
def open_means(
    model: Model,
    everywhere: Sequence[Candidate],
    settings: Settings,
    progress: Progress | None,
    *,
    connections: int,
    max_rate: str | int | None = None,
    adopt: Sequence[Path] = (),
    fresh: bool = False,
    keep: bool = True,
) -> Iterator[Session]:
    """everywhere: all releases of the model. adopt: folders of the user's. fresh: believe no digest that was
    remembered; keep: remember new ones. Raises UsageError for settings that make no sense."""
    progress = progress or Progress()
    names = (name for release in model.releases for name in (release.repo, *release.also_listed_as))
    ledger = HashCache(settings.home, keep=keep, fresh=fresh)
    caches = caches_of(settings, names, adopt)
    for note in caches.closed:
        progress.note(note)
    adopter = Adopter(caches, ledger, progress)
    retry_policy = RetryPolicy.of(settings)
    told: list[str] = []

    def tell(note: str) -> None:
        told.append(note)
        progress.note(note)

    client = Client(settings.environ, retry_policy, connections, rate_of(max_rate), tell)
    store, hubs = Store(settings.home), Hubs(settings, tell)
    try:
        yield Session(settings, store, hubs, client, progress, everywhere, adopter, told=told)
    finally:
        client.close()
