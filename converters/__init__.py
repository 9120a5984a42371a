"""Checkpoints: tensors and file formats. Knows nothing of hubs or of the command line.

Names are looked up when they are first used, so that importing the package imports no numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converters.auxiliary.tokens import TokenizerFacts as TokenizerFacts
    from converters.conversion.convert import Execution as Execution
    from converters.conversion.convert import Report as Report
    from converters.conversion.convert import carry_out as carry_out
    from converters.conversion.convert import convert as convert
    from converters.inspection.index_repair import fix_index as fix_index
    from converters.inspection.report import Inspection as Inspection
    from converters.inspection.report import inspect as inspect
    from converters.options import ConversionOptions as ConversionOptions
    from converters.planning.plan import Plan as Plan
    from converters.planning.plan import llama_config as llama_config
    from converters.planning.plan import plan_conversion as plan_conversion
    from converters.sinks.comparison import Comparison as Comparison
    from converters.sinks.comparison import compare as compare
    from converters.sinks.digests import fingerprint as fingerprint
    from converters.sinks.memory import read_tensors as read_tensors
    from converters.source.checkpoint import Checkpoint as Checkpoint
    from converters.source.checkpoint import LogicalTensor as LogicalTensor
    from converters.source.checkpoint import open_checkpoint as open_checkpoint

_NAMES = {
    "auxiliary.tokens": "TokenizerFacts",
    "conversion.convert": "Execution Report carry_out convert",
    "inspection.index_repair": "fix_index",
    "inspection.report": "Inspection inspect",
    "options": "ConversionOptions",
    "planning.plan": "Plan llama_config plan_conversion",
    "sinks.comparison": "Comparison compare",
    "sinks.digests": "fingerprint",
    "sinks.memory": "read_tensors",
    "source.checkpoint": "Checkpoint LogicalTensor open_checkpoint",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'converters' has no attribute {name!r}")
    found = getattr(import_module(f"converters.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
