"""The config of the stock Llama model that a checkpoint is."""

from __future__ import annotations

from typing import Any

from converters.checkpoint import Checkpoint
from converters.plan import plan_conversion


def llama_config(source: Checkpoint) -> dict[str, Any]:
    """config.json for transformers' LlamaForCausalLM, or LlamaForSequenceClassification for a reward model.

    Raises UsageError naming a fact that must be given, UnsupportedError for what Llama cannot express.
    """
    return dict(plan_conversion(source, to="llama").config)
