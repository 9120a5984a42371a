"""What to hold a file against when its own hub publishes no digest: another hub's digest of the same file.

OpenXLab lists neither sizes nor digests. If another release of the same model and format has the path, at
the size that came, the bytes must be the same. Otherwise they are taken on first use, and the lock says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from internlm_zoo.errors import IntegrityError, ZooError
from internlm_zoo.registry.lock import LockedFile
from internlm_zoo.sources.base import RemoteFile
from internlm_zoo.store.candidates import Candidate
from internlm_zoo.store.hubs import Hubs
from internlm_zoo.transfer.digest import digest_file
from internlm_zoo.transfer.values import Fetched, Wanted


def vouch(fetched: Fetched, path: str, hub: str, others: Sequence[Candidate], hubs: Hubs) -> str | None:
    """The name of a hub that vouches for what came from `hub`; None if nobody can.

    others: releases of the same model and format. Raises IntegrityError if one has this path and size but
    other bytes.
    """
    for other in others:
        file = _published(other, path, hubs)
        if file is not None and file.size == fetched.size and (file.sha256 or file.git_sha1):
            wrong = _difference(fetched, file)
            if wrong:
                fetched.path.unlink()
                raise IntegrityError(f"{path} from {hub} is not what {other.hub.name} publishes: {wrong}")
            return other.hub.name
    return None


def _difference(fetched: Fetched, file: LockedFile | RemoteFile) -> str | None:
    if file.sha256 is None:
        return digest_file(fetched.path, Wanted(file.path, file.size, None, file.git_sha1)).mismatch()
    return None if file.sha256 == fetched.sha256 else f"expected sha256 {file.sha256}, found {fetched.sha256}"


def _published(candidate: Candidate, path: str, hubs: Hubs) -> LockedFile | RemoteFile | None:
    """What the lock or else the hub says about a file; None too for a hub that cannot be asked now."""
    locked = candidate.locked and candidate.locked.file(path)
    if locked and (locked.sha256 or locked.git_sha1):
        return locked
    try:
        return hubs.snapshot(candidate).file(path)
    except ZooError:
        return None
