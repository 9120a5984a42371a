"""The result is read back as anyone would, and every logical tensor held against the source's bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from converters.errors import IntegrityError
from converters.planning.choices import normalised
from converters.planning.plan import Plan
from converters.progress import Progress
from converters.sinks.digests import fingerprint_of
from converters.source.checkpoint import open_checkpoint


def prove(
    plan: Plan, passed: Mapping[str, str], path: Path, workers: int | None, progress: Progress
) -> Mapping[str, str]:
    """The fingerprints of the result in `path`.

    passed: digests taken as they passed; the source's other tensors are read once more. Raises IntegrityError
    naming a tensor that is not what it is in the source."""
    # A head that stays unnormalised counts as what it is in the forward pass; one that was normalised before
    # does not count the same once it is normalised again.
    raw = normalised(plan.source, {}) - plan.normalised
    wanted = fingerprint_of(
        plan.source,
        known={name: digest for name, digest in passed.items() if name not in raw},
        elements=plan.elements,
        workers=workers,
        progress=progress,
        task="fingerprint of the source",
    )
    result = open_checkpoint(path)
    found = fingerprint_of(
        result,
        as_counted=not plan.lossy,
        workers=workers,
        progress=progress,
        task="fingerprint of the result",
    )
    for name in wanted.keys() | found.keys():
        if wanted.get(name) != found.get(name):
            what = f"{name} is not in the result what it is in the source"
            raise IntegrityError(what, path, "the disk may be failing: run it again")
    if not plan.lossy:
        return found
    known = {name: digest for name, digest in found.items() if name not in plan.lossy}
    return fingerprint_of(result, known=known, workers=workers)
