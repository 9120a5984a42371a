"""Takes files that are on this machine already: hashed once, then linked into the store or copied.

A blob that is a hard link shares its bytes with a file that its owner may write to. Its mode stays the
owner's, and its stamp is in the hash cache: a download that finds another stamp hashes the blob again, and
`verify` hashes always.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from internlm_zoo.caches.find import Caches, LocalCopy
from internlm_zoo.files import File
from internlm_zoo.fs.linking import How, duplicate
from internlm_zoo.fs.ownership import draft
from internlm_zoo.progress import Progress
from internlm_zoo.store.hash_cache import HashCache, KnownDigests, Stamp
from internlm_zoo.store.layout import Store
from internlm_zoo.store.publish import keep_blob
from internlm_zoo.transfer.workers import Stopped

# A plan hashes files up to this size, and believes larger ones by name and size.
_SOON_HASHED = 8 << 20


@dataclass(frozen=True)
class HashedCopy:
    """A file with the bytes that are wanted, as it was when it was hashed."""

    copy: LocalCopy
    known: KnownDigests


@dataclass(frozen=True)
class TemporaryCopy:
    """What was taken, under a name of ours."""

    path: Path
    how: How


@dataclass(frozen=True)
class Adopter:
    """Looks through caches. A file without a published digest is never found: nothing would tell it from
    another."""

    caches: Caches
    hash_cache: HashCache
    progress: Progress

    def matches(self, file: File, stop: threading.Event) -> Iterator[HashedCopy]:
        """The files that are this one, hashed as they come. Whoever asks tells `progress` when it is over.
        Raises Stopped once `stop` is set."""
        for copy in self.copies(file):
            try:
                known = self._digests(copy, file, stop)
            except OSError as error:
                self.progress.note(f"{copy.path} in {copy.owner} cannot be read: {error.strerror}")
            else:
                if file.digests.agree(known.digests):
                    yield HashedCopy(copy, known)

    def guess(self, file: File) -> LocalCopy | None:
        """Where `matches` will find it; of a large file that was never hashed, where it probably will."""
        for copy in self.copies(file):
            with suppress(OSError):
                if copy.size <= _SOON_HASHED:
                    known: KnownDigests | None = self.hash_cache.digests(copy.path, file.algorithms)
                else:
                    known = self.hash_cache.remembered(copy.path)
                if known is None or file.digests.agree(known.digests):
                    return copy
        return None

    def copies(self, file: File) -> Iterator[LocalCopy]:
        """Where it may be, nothing read."""
        return self.caches.copies(file) if file.identified else iter(())

    def _digests(self, copy: LocalCopy, file: File, stop: threading.Event) -> KnownDigests:
        def seen(amount: int) -> None:
            if stop.is_set():
                raise Stopped
            self.progress.advance(file.path, amount)

        self.progress.start(file.path, file.size)
        return self.hash_cache.digests(copy.path, file.algorithms, seen)


def take_in(store: Store, hash_cache: HashCache, found: HashedCopy) -> bool:
    """Make a found file a blob of the store; False if it changed since it was hashed."""
    blob = store.blob(found.known.sha256)
    at_rest = hash_cache.remembered(found.copy.path) is not None
    with second_name(found, store.partial, hard=True) as made:
        if made is None:
            return False
        keep_blob(store, made.path, blob.name, ours=made.how != "hard link")
    if made.how == "hard link" and at_rest:
        _remember_both(hash_cache, found, blob)
    return True


def _remember_both(hash_cache: HashCache, found: HashedCopy, blob: Path) -> None:
    """The two names of one file, whose stamp has changed by getting the second."""
    stamp = Stamp.of(blob)
    if stamp.is_but_linked(found.known.stamp):
        for name in (found.copy.path, blob):
            hash_cache.remember(name, replace(found.known, stamp=stamp))


@contextmanager
def second_name(found: HashedCopy, partial_folder: Path, *, hard: bool) -> Iterator[TemporaryCopy | None]:
    """A found file under a name of ours, to be moved where it belongs; None if it changed since it was
    hashed. hard: whether one file with two names will do."""
    key = f"adopted-{found.known.sha256}"
    with draft(partial_folder, key) as path:  # a rename onto another name of the same file leaves both
        how = _duplicate(found, path, hard=hard)
        yield TemporaryCopy(path, how) if how else None


def _duplicate(found: HashedCopy, path: Path, *, hard: bool) -> How | None:
    try:
        how = duplicate(found.copy.path, path, hard=hard)
        return how if Stamp.of(found.copy.path).is_but_linked(found.known.stamp) else None
    except FileNotFoundError:  # its owner removed it
        return None
