"""At work in the store: as long as somebody is, nothing is pruned.

Whoever brings something shows a life in `partial/` (ownership.py), which ends with its process, and then
looks whether somebody prunes. Whoever prunes takes a lock, and then looks for lives. So one of two sees the
other, however they come: a download waits for the end of a prune, a prune does not wait for a download's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from converters.locking import Holder, LockFile, held, take
from converters.system.filesystem import best_effort
from internlm_zoo.errors import UsageError
from internlm_zoo.fs.ownership import Owner, holder_in
from internlm_zoo.store.layout import Store

_PRUNE = "prune.lock"


@contextmanager
def at_work(store: Store, tell: Callable[[str], None]) -> Iterator[None]:
    """Nothing of the store is pruned meanwhile. tell: whom to tell if that takes waiting. A store that takes
    nothing loses nothing either."""
    kept_out: list[OSError] = []
    with ExitStack() as stack:
        with best_effort(kept_out.append):
            stack.enter_context(Owner(store.partial))
        if not kept_out and lock_of(store).exists():
            with held(lock_of(store), tell):
                pass
        yield


@contextmanager
def alone(store: Store) -> Iterator[None]:
    """Nobody is at work there. Raises UsageError if somebody is."""
    guard: LockFile | Holder | None = None  # where nothing can be written, nor removed
    with best_effort():
        store.partial.mkdir(parents=True, exist_ok=True)
        guard = take(lock_of(store))
    try:
        holder = guard if isinstance(guard, Holder) else holder_in(store.partial)
        if holder is not None:
            what = f"a download is under way: {holder}" if guard is not holder else f"it is at work: {holder}"
            raise UsageError(what, store.partial, "wait for its end, and run it again")
        yield
    finally:
        if isinstance(guard, LockFile):
            guard.release()


def lock_of(store: Store) -> Path:
    """What is held by whoever prunes."""
    return store.partial / _PRUNE
