"""Which model a result is called, by whom its source was named and by the source's fingerprint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from converters.planning.plan import Plan
from converters.progress import Progress
from converters.sinks.digests import fingerprint_of, fingerprint_of_all
from converters.source.model_identity import ModelIdentity, carried


def identity_of(
    plan: Plan,
    named: ModelIdentity | None,
    passed: Mapping[str, str],
    evidence: bool,
    workers: int | None,
    progress: Progress,
) -> ModelIdentity | None:
    """Of the source's weights. named: by who converts. passed: digests of the result's tensors, which are the
    source's where no value changed on the way; else the source is read once more, if a fingerprint is known
    that it could differ from."""
    recorded = plan.source.model
    if passed and not (plan.elements or plan.lossy):
        found: str | None = fingerprint_of_all(passed)
    elif evidence and not plan.source.folder.in_order and _comparable(named, recorded):
        found = fingerprint_of_all(fingerprint_of(plan.source, workers=workers, progress=progress))
    else:
        found = None
    return carried(named, recorded, found)


def _comparable(named: ModelIdentity | None, recorded: ModelIdentity | None) -> bool:
    return any(one is not None and one.fingerprint for one in (named, recorded))


def notes_on_name(model: ModelIdentity | None) -> Iterator[str]:
    if model and model.changed:
        yield (
            f"its weights are not those of {model.name}, whose name they have: trained further, or damaged; "
            "the result keeps the name, and nothing that is known of the released weights is said of it"
        )
