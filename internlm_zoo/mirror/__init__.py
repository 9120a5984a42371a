"""A directory that holds what the hubs hold: planned, applied, compared.

from internlm_zoo.mirror import apply, plan
report = apply(Path("mirror.yaml"), settings=settings)
"""

from __future__ import annotations

from internlm_zoo.mirror.config import RunOptions
from internlm_zoo.mirror.engine import apply, diff, plan
from internlm_zoo.mirror.report import ReleaseReport, Report

__all__ = ["ReleaseReport", "Report", "RunOptions", "apply", "diff", "plan"]
