"""The smoke test of one model: golden data where the registry names it, else limits of any sound model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from internlm_zoo.loading.directory import ModelDirectory, open_directory
from internlm_zoo.loading.load import execute, plan_directory
from internlm_zoo.loading.runtime import require_torch
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings
from internlm_zoo.smoke.result import SmokeResult, conclude


def smoke_test(
    model: str | Path,
    *,
    settings: Settings,
    devices: Sequence[str] | None = None,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    progress: Progress | None = None,
) -> SmokeResult:
    """Load the model and look at what it does.

    model: a registry name or a directory in any format. known_as: the registry model that a directory is to
    be judged as. weights: which of several sets in it. A model that fails is a result, not an error; raises
    what loading raises.
    """
    require_torch()
    directory = open_directory(
        model, settings=settings, known_as=known_as, given=given, weights=weights, progress=progress
    )
    return judge(directory, devices=devices)


def judge(directory: ModelDirectory, *, devices: Sequence[str] | None = None) -> SmokeResult:
    """The checks that suit what the registry knows of the model in the directory."""
    from internlm_zoo.smoke.golden import golden_checks, load_golden
    from internlm_zoo.smoke.statistics import statistical_checks

    golden = directory.model.smoke.golden if directory.model else None
    # Golden data is float32's; other models are tried as they would be used.
    loaded = execute(plan_directory(directory, devices=devices, dtype="float32" if golden else None))
    checks = golden_checks(loaded, load_golden(golden)) if golden else statistical_checks(loaded)
    return conclude(directory.title, checks)
