"""Releases that are fetched, verified, mirrored and served like any other, and go no further."""

from __future__ import annotations

from internlm_zoo.errors import UnsupportedError
from internlm_zoo.registry import Registry
from internlm_zoo.registry.lock import LockedRelease
from internlm_zoo.registry.release import QUANTISED


def refuse_quantised(release: LockedRelease | None, registry: Registry) -> None:
    """Raises UnsupportedError, naming the release and how it is quantised, for one whose weights are not the
    model's own. release: what a folder is a download of, if it is one."""
    if release is None or release.format not in QUANTISED:
        return
    found = registry.listing(release.hub, release.repo)
    detail = found[1].quantisation if found else None
    how = f"{release.format} {detail}" if detail else release.format
    raise UnsupportedError(
        f"{release.repo} is a quantised release ({how}): its weights are rounded, "
        "and only the model's own are converted, loaded or inspected",
        release.id,
        _way_out(found[0].name if found else None),
    )


def _way_out(model: str | None) -> str:
    own = f"`internlm-zoo download {model} --format hf` gets those; " if model else ""
    return f"{own}an engine that reads this format opens the folder as it is"
