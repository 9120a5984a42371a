"""What to hold a file against when its own hub publishes no digest: another hub's digest of the same file.

OpenXLab lists neither sizes nor digests. If another release of the same model and format has the path, at
the size that came, the bytes must be the same; at another size it is other content, and that is said.
Without anybody to compare with, the bytes are taken on first use, and the lock says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from internlm_zoo.downloads.candidates import Candidate
from internlm_zoo.downloads.listings import Hubs
from internlm_zoo.errors import IntegrityError, ZooError
from internlm_zoo.files import Digests, Fact, File
from internlm_zoo.hashing import hash_file
from internlm_zoo.transfer.values import Fetched


@dataclass(frozen=True)
class CrossCheck:
    """What the other hubs say about a file. verified_by: the one that has the same bytes, None if none has.
    note: who has something else, in a sentence."""

    verified_by: str | None = None
    note: str | None = None


def cross_check(fetched: Fetched, path: str, hub: str, others: Sequence[Candidate], hubs: Hubs) -> CrossCheck:
    """Hold what came from `hub` against what the others publish.

    others: releases of the same model and format. Raises IntegrityError if the path and size are published
    with other bytes, and nowhere with these, or if nothing came of what has bytes elsewhere.
    """
    published = [(other.hub.name, _published(other, path, hubs)) for other in others]
    known = [(name, file) for name, file in published if file and (any(file.digests))]
    comparisons = [(name, _difference(fetched, file)) for name, file in known if file.size == fetched.size]
    for name, wrong in comparisons:
        if wrong is None:
            return CrossCheck(verified_by=name)
    for name, wrong in comparisons:
        fetched.path.unlink()
        raise IntegrityError(f"{path} from {hub} is not what {name} publishes: {wrong}")
    sizes = ", ".join(f"{file.size:,} on {name}" for name, file in known if file.size is not None)
    if sizes and not fetched.size:  # what a gateway sends that has nothing is no other version of the file
        fetched.path.unlink()
        raise IntegrityError(f"{path} is empty on {hub}, and has more bytes elsewhere: {sizes}")
    return CrossCheck(note=f"{path} has {fetched.size:,} bytes on {hub}, but {sizes}" if sizes else None)


def _difference(fetched: Fetched, file: File) -> Fact | None:
    found = Digests(fetched.sha256) if file.sha256 else hash_file(fetched.path, file.algorithms)
    return file.digests.conflict(found)


def _published(candidate: Candidate, path: str, hubs: Hubs) -> File | None:
    """What the lock or else the hub says about a file; None too for a hub that cannot be asked now."""
    locked = candidate.locked and candidate.locked.file(path)
    if locked and (any(locked.digests)):
        return locked
    try:
        return hubs.snapshot(candidate).file(path)
    except ZooError:
        return None
