"""The smoke test of one model: facts, then golden data of these weights, or limits of any sound model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from internlm_zoo.loading.directory import LoadRequest, ModelDirectory, open_directory
from internlm_zoo.loading.generate import prompt_note
from internlm_zoo.loading.load import Loaded, execute, plan_directory
from internlm_zoo.loading.runtime import require_torch
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings
from internlm_zoo.smoke.facts import facts_check, weights_check
from internlm_zoo.smoke.result import Check, SmokeResult, conclude


def smoke_test(request: LoadRequest, *, settings: Settings, progress: Progress | None = None) -> SmokeResult:
    """Load the model and look at what it does. A model that fails is a result, not an error; raises what
    loading raises."""
    require_torch()
    directory = open_directory(request, settings=settings, progress=progress)
    if progress and (note := prompt_note(directory)):
        progress.note(note)
    return judge(directory, devices=request.devices)


def judge(directory: ModelDirectory, *, devices: Sequence[str] | None = None) -> SmokeResult:
    """The checks that suit what is known of the model in the directory. One whose files contradict what it is
    said to be is not loaded."""
    return conclude(directory.title, _checks(directory, devices))


def _checks(directory: ModelDirectory, devices: Sequence[str] | None) -> Iterator[Check]:
    facts = facts_check(directory)
    yield facts
    if not facts.ok:
        return
    weights = weights_check(directory)
    if weights:
        yield weights
    golden = _golden_name(directory, weights)
    # Golden data is float32's; other models are tried as they would be used.
    loaded = execute(plan_directory(directory, devices=devices, dtype="float32" if golden else None))
    yield from _behaviour(loaded, golden)


def _golden_name(directory: ModelDirectory, weights: Check | None) -> str | None:
    """Golden data of these very weights: what was trained further has none."""
    changed = directory.identity is not None and directory.identity.changed
    if directory.model is None or changed or (weights and not weights.ok):
        return None
    return directory.model.smoke.golden


def _behaviour(loaded: Loaded, golden: str | None) -> Iterator[Check]:
    from internlm_zoo.smoke.golden import golden_checks, load_golden
    from internlm_zoo.smoke.statistics import statistical_checks

    yield from golden_checks(loaded, load_golden(golden)) if golden else statistical_checks(loaded)
