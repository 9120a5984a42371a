"""The smoke test of one model: facts, then golden data of these weights, or limits of any sound model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from internlm_zoo.loading.directory import LoadRequest, ModelDirectory, open_directory
from internlm_zoo.loading.generate import prompt_note
from internlm_zoo.loading.load import Loaded, execute, plan_directory, ranks_for
from internlm_zoo.loading.ranks import Ranks, agreed, of_first
from internlm_zoo.loading.runtime import quiet, require_torch
from internlm_zoo.progress import Progress
from internlm_zoo.registry.schema import Smoke
from internlm_zoo.settings import Settings
from internlm_zoo.smoke.facts import facts_check, weights_check
from internlm_zoo.smoke.keeping import files_tried, keep_beside
from internlm_zoo.smoke.recording import check_recordable, write_recording
from internlm_zoo.smoke.result import Check, SmokeResult, conclude
from internlm_zoo.smoke.values import values_check


def smoke_test(
    request: LoadRequest,
    *,
    settings: Settings,
    strict: bool = False,
    progress: Progress | None = None,
    record: Path | None = None,
) -> SmokeResult:
    """Load the model and look at what it does; what that says is kept beside it. A model that fails is a
    result, not an error; raises what loading raises. strict: one that cannot be judged has failed. record:
    the overlay to write what the passages cost it into, if it passes; raises what `check_recordable`
    raises."""
    ranks = ranks_for(request, settings)
    directory = agreed(ranks, lambda: open_directory(request, settings=settings, progress=progress))
    require_torch()
    note = (progress or Progress()).note
    if how := prompt_note(directory):
        note(how)
    if record:
        check_recordable(directory, record)
    tried = of_first(ranks, lambda: files_tried(directory))
    result = judge(directory, devices=request.devices, ranks=ranks, strict=strict)
    of_first(ranks, lambda: keep_beside(directory, result, tried, note))
    if record and result.ok:
        write_recording(_load(directory, request.devices, _known(directory)), record)
    return result


def judge(
    directory: ModelDirectory,
    *,
    devices: Sequence[str] | None = None,
    ranks: Ranks | None = None,
    strict: bool = False,
) -> SmokeResult:
    """The checks that suit what is known of the model in the directory. One whose files contradict what it is
    said to be is not loaded. ranks: that share it, of which the first looks at the files. strict: one that
    cannot be judged has failed."""
    with quiet():
        return conclude(directory.title, _checks(directory, devices, ranks), strict=strict)


def _checks(directory: ModelDirectory, devices: Sequence[str] | None, ranks: Ranks | None) -> Iterator[Check]:
    facts = of_first(ranks, lambda: facts_check(directory))
    yield facts
    if not facts.ok:
        return
    weights = of_first(ranks, lambda: weights_check(directory))
    if weights:
        yield weights
    yield of_first(ranks, lambda: values_check(directory))
    known = Smoke() if weights and not weights.ok else _known(directory)
    yield from _behaviour(_load(directory, devices, known, ranks), known)


def _load(
    directory: ModelDirectory, devices: Sequence[str] | None, known: Smoke, ranks: Ranks | None = None
) -> Loaded:
    """Golden data is float32's; other models are tried as they would be used."""
    dtype = "float32" if known.golden else None
    return execute(plan_directory(directory, devices=devices, dtype=dtype, ranks=ranks))


def _known(directory: ModelDirectory) -> Smoke:
    """What is known of these very weights: of those trained further nothing."""
    changed = directory.identity is not None and directory.identity.changed
    return Smoke() if directory.model is None or changed else directory.model.smoke


def _behaviour(loaded: Loaded, known: Smoke) -> Iterator[Check]:
    from internlm_zoo.smoke.golden import golden_checks, load_golden
    from internlm_zoo.smoke.passage_check import passage_check
    from internlm_zoo.smoke.statistics import statistical_checks

    golden = known.golden
    checks = list(golden_checks(loaded, load_golden(golden)) if golden else statistical_checks(loaded))
    yield from checks
    if loaded.tokenizer and not loaded.plan.directory.scores and not _unreadable(checks):
        yield passage_check(loaded, known.passages)


def _unreadable(checks: Sequence[Check]) -> bool:
    """Whether what failed leaves nothing to read to it: another tokenizer, or numbers that are none."""
    return any(not check.ok and check.name in ("token ids", "vocabulary", "finite") for check in checks)
