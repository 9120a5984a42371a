"""The smoke test of one model: golden data where the registry names it, else limits of any sound model."""

from __future__ import annotations

from collections.abc import Sequence

from internlm_zoo.loading.directory import LoadRequest, ModelDirectory, open_directory
from internlm_zoo.loading.load import execute, plan_directory
from internlm_zoo.loading.runtime import require_torch
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings
from internlm_zoo.smoke.result import SmokeResult, conclude


def smoke_test(request: LoadRequest, *, settings: Settings, progress: Progress | None = None) -> SmokeResult:
    """Load the model and look at what it does. A model that fails is a result, not an error; raises what
    loading raises."""
    require_torch()
    return judge(open_directory(request, settings=settings, progress=progress), devices=request.devices)


def judge(directory: ModelDirectory, *, devices: Sequence[str] | None = None) -> SmokeResult:
    """The checks that suit what the registry knows of the model in the directory."""
    from internlm_zoo.smoke.golden import golden_checks, load_golden
    from internlm_zoo.smoke.statistics import statistical_checks

    golden = directory.model.smoke.golden if directory.model else None
    # Golden data is float32's; other models are tried as they would be used.
    loaded = execute(plan_directory(directory, devices=devices, dtype="float32" if golden else None))
    checks = golden_checks(loaded, load_golden(golden)) if golden else statistical_checks(loaded)
    return conclude(directory.title, checks)
