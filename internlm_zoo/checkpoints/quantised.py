"""Releases that are fetched, verified, mirrored and served like any other, and go no further."""

from __future__ import annotations

from internlm_zoo.errors import UnsupportedError
from internlm_zoo.registry import Registry
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.registry.release import QUANTISED


def called(release: LockedRelease | None, registry: Registry) -> str | None:
    """What a release is called where it is a quantised one. release: what a folder is a download of, if it is
    one."""
    if release is None or release.format not in QUANTISED:
        return None
    found = registry.listing(release.hub, release.repo)
    detail = found[1].quantisation if found else None
    how = f"{release.format} {detail}" if detail else release.format
    return f"{release.repo} is a quantised release ({how})"


def refuse_quantised(release: LockedRelease | None, registry: Registry) -> None:
    """Raises UnsupportedError, naming the release, for one whose weights are not the model's own."""
    told = called(release, registry)
    if release is None or told is None:
        return
    found = registry.listing(release.hub, release.repo)
    raise UnsupportedError(
        f"{told}: its weights are rounded, and only the model's own are converted or loaded",
        release.id,
        _way_out(found[0].name if found else None),
    )


def _way_out(model: str | None) -> str:
    own = f"`download({model!r}, format='hf')` gets those; " if model else ""
    return f"{own}an engine that reads this format opens the folder as it is"
