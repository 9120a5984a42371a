"""`download`: from a model's name to a folder of checked files, by way of whichever hub delivers them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TypeVar

from internlm_zoo.caches.huggingface import home_release, publish
from internlm_zoo.downloads.candidates import Candidate, ReleaseFilter, candidates
from internlm_zoo.downloads.plan import DownloadPlan
from internlm_zoo.downloads.release import fetch_release, plan_release
from internlm_zoo.downloads.request import DownloadRequest
from internlm_zoo.downloads.result import DownloadResult
from internlm_zoo.downloads.session import Session, open_session
from internlm_zoo.errors import HUB_FAILURES, NotFoundError, UsageError, ZooError, most_severe
from internlm_zoo.fs.disk import disk
from internlm_zoo.progress import Progress
from internlm_zoo.registry import load_registry
from internlm_zoo.registry.lock import Lock, LockedRelease
from internlm_zoo.settings import Settings
from internlm_zoo.store.in_use import at_work
from internlm_zoo.store.layout import Store
from internlm_zoo.store.publish import holds
from internlm_zoo.store.record import intact_record, read_record
from internlm_zoo.transfer.workers import raise_if_cancelled

T = TypeVar("T")
_Answer = TypeVar("_Answer", DownloadResult, DownloadPlan)


def download(
    request: DownloadRequest,
    *,
    settings: Settings,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> DownloadResult:
    """Get a model's files, every one checked before it is shown.

    Digests come from the lock, or on first contact from the hub, and are then locked. A complete release that
    is locked makes no request. cancel: once it is set, transfers stop within a second.

    Raises NotFoundError, AccessError, NetworkError or IntegrityError when no hub delivers (nothing is shown
    then, and what arrived right is kept for the next run), NoSpaceError, UsageError, RegistryError,
    Cancelled.
    """
    begun = time.monotonic()
    with _opened(request, settings, progress, cancel) as (order, session):
        done = _published(_first_of(order, request, session, fetch_release), request, session)
    return replace(done, seconds=time.monotonic() - begun)


def plan_download(
    request: DownloadRequest, *, settings: Settings, progress: Progress | None = None
) -> DownloadPlan:
    """What `download` would do now. Hubs may be asked; nothing is written.

    Raises what `download` raises before the first byte comes.
    """
    with _opened(request, settings, progress, writes=False) as (order, session):
        return _first_of(order, request, session, plan_release)


def carry_out(
    plan: DownloadPlan,
    request: DownloadRequest,
    *,
    settings: Settings,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> DownloadResult:
    """Do what a plan says: its files, of its revision, from its hub or another that has the same bytes.

    request: how fast, and nothing of what. Raises what `download` raises, also where the hub now has
    something else.
    """
    workers, rate = request.max_workers, request.max_rate
    if request != DownloadRequest(plan.model, max_workers=workers, max_rate=rate):
        raise UsageError("a plan says already what is to be had", fix="give these to plan_download")
    request = replace(plan.request, selection=plan.selection, max_workers=workers, max_rate=rate)
    request = replace(request, format=plan.format)
    begun = time.monotonic()
    with _opened(request, settings, progress, cancel) as (order, session):
        own = next((candidate for candidate in order if candidate.offers(plan.release)), None)
        if own is None:
            what = "the registry no longer has what was planned"
            raise NotFoundError(what, plan.release.id, "plan it again")
        others = [other for other in order if other is not own]
        own = own if own.locked == plan.release else replace(own, locked=plan.release, planned=True)
        raise_if_cancelled(cancel)
        done = fetch_release(own, others, request, session)
        done = _published(replace(done, notes=plan.notes + done.notes), request, session)
    return replace(done, seconds=time.monotonic() - begun)


def first_of(
    model: str, order: Sequence[Candidate], step: Callable[[Candidate], T], note: Callable[[str], None]
) -> tuple[T, list[tuple[Candidate, ZooError]]]:
    """What the first candidate gives that works out, and why those before it did not. note: told of each.
    Raises the error that says why none was of use."""
    failures: list[tuple[Candidate, ZooError]] = []
    for candidate in order:
        try:
            return step(candidate), failures
        except HUB_FAILURES as error:
            failures.append((candidate, error))
            if candidate is not order[-1]:
                note(f"{candidate.release.id}: {error.what}; going on to the next source")
    raise _combined_error(model, failures)


def _first_of(
    order: Sequence[Candidate],
    request: DownloadRequest,
    session: Session,
    step: Callable[[Candidate, Sequence[Candidate], DownloadRequest, Session], _Answer],
) -> _Answer:
    def attempt(candidate: Candidate) -> _Answer:
        raise_if_cancelled(session.cancel)
        return step(candidate, [other for other in order if other is not candidate], request, session)

    done, failures = first_of(request.model, order, attempt, session.progress.note)
    notes = tuple(f"{failed.release.id} was no use: {error.what}" for failed, error in failures)
    return replace(done, notes=notes + done.notes)


def _is_complete(release: LockedRelease, request: DownloadRequest, store: Store) -> bool:
    """Whether all that is asked for of a locked release is in the store."""
    folder = store.release(release.hub, release.repo, release.revision)
    try:
        return all(holds(store, folder, file) for file in request.selection.of(release))
    except NotFoundError:
        return False


def _published(done: DownloadResult, request: DownloadRequest, session: Session) -> DownloadResult:
    """In the cache of huggingface_hub as well, if that was asked for."""
    if not request.hf_cache:
        return done
    record = read_record(done.path)
    assert record is not None and record.whole
    settings, hash_cache = session.settings, session.adopter.hash_cache
    model = load_registry(settings).model(done.model)
    published = publish(record.release, model, settings, session.store, hash_cache)
    for note in published.notes:
        session.progress.note(note)
    return replace(done, notes=done.notes + published.notes, shown_in=published.snapshot)


def _combined_error(model: str, failures: Sequence[tuple[Candidate, ZooError]]) -> ZooError:
    if len({error.what for _, error in failures}) == 1:
        return failures[0][1]
    kind = most_severe(error for _, error in failures)
    reasons = "; ".join(f"{candidate.release.id}: {error.what}" for candidate, error in failures)
    ordered = sorted((error for _, error in failures), key=lambda error: not isinstance(error, kind))
    fix = next((error.fix for error in ordered if error.fix), None)
    return kind(f"no source delivers {model}: {reasons}", fix=fix)


def _nearest_first(order: Sequence[Candidate], request: DownloadRequest, store: Store) -> list[Candidate]:
    """The same, with what is complete here, or begun in the folder the user names, in front."""
    begun = intact_record(request.local_dir) if request.local_dir else None

    def is_far(candidate: Candidate) -> bool:
        locked = candidate.locked
        if request.local_dir is not None:
            return begun is None or candidate.hub.name != begun.release.hub
        return locked is None or not _is_complete(locked, request, store)

    return sorted(order, key=is_far)


@contextmanager
def _opened(
    request: DownloadRequest,
    settings: Settings,
    progress: Progress | None,
    cancel: threading.Event | None = None,
    *,
    writes: bool = True,
) -> Iterator[tuple[list[Candidate], Session]]:
    """The candidates in their order, and what it takes to ask them. writes: whether digests of adopted files
    may be remembered."""
    registry, lock = load_registry(settings), Lock.load(settings)
    entry = registry.model(request.model)
    if request.hf_cache:
        home_release(entry, registry)
    wanted = ReleaseFilter(request.in_cache_format().format, request.source, request.revision)
    order = candidates(entry, registry, lock, settings, wanted)
    with (
        disk(request.local_dir or settings.home),
        open_session(request, settings, progress, cancel=cancel, keep=writes) as session,
        at_work(session.store, session.progress.note) if writes and not request.local_dir else nullcontext(),
    ):
        yield _nearest_first(order, request, session.store), session
