"""Checkpoints: tensors and file formats. Knows nothing of hubs or of the command line.

Names are looked up when they are first used, so that importing the package imports no numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converters.beside.known import TokenizerFacts as TokenizerFacts
    from converters.checkpoint import Checkpoint as Checkpoint
    from converters.checkpoint import LogicalTensor as LogicalTensor
    from converters.checkpoint import open_checkpoint as open_checkpoint
    from converters.conversion import Execution as Execution
    from converters.conversion import Report as Report
    from converters.conversion import carry_out as carry_out
    from converters.conversion import convert as convert
    from converters.inspection.mending import fix_index as fix_index
    from converters.inspection.report import Inspection as Inspection
    from converters.inspection.report import inspect as inspect
    from converters.llama import llama_config as llama_config
    from converters.options import ConversionOptions as ConversionOptions
    from converters.plan import Plan as Plan
    from converters.plan import plan_conversion as plan_conversion
    from converters.sinks.comparison import Comparison as Comparison
    from converters.sinks.comparison import compare as compare
    from converters.sinks.digests import fingerprint as fingerprint
    from converters.sinks.memory import read_tensors as read_tensors

_HOMES = {
    "TokenizerFacts": "beside.known",
    "Checkpoint": "checkpoint",
    "LogicalTensor": "checkpoint",
    "open_checkpoint": "checkpoint",
    "Execution": "conversion",
    "Report": "conversion",
    "carry_out": "conversion",
    "convert": "conversion",
    "fix_index": "inspection.mending",
    "Inspection": "inspection.report",
    "inspect": "inspection.report",
    "llama_config": "llama",
    "ConversionOptions": "options",
    "Plan": "plan",
    "plan_conversion": "plan",
    "Comparison": "sinks.comparison",
    "compare": "sinks.comparison",
    "fingerprint": "sinks.digests",
    "read_tensors": "sinks.memory",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'converters' has no attribute {name!r}")
    found = getattr(import_module(f"converters.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
