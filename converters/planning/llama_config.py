"""The config of the stock Llama model that a checkpoint is."""

from __future__ import annotations

from typing import Any

from converters.options import ConversionOptions
from converters.planning.plan import plan_conversion
from converters.source.checkpoint import Checkpoint


def llama_config(source: Checkpoint) -> dict[str, Any]:
    """config.json for transformers' LlamaForCausalLM, or LlamaForSequenceClassification for a reward model.

    It holds what the layout's table names and nothing else that a checkpoint's config may say: transformers
    fetches code for some of it, such as an attention implementation.
    Raises UsageError naming a fact that must be given, UnsupportedError for what Llama cannot express.
    """
    plan = plan_conversion(source, ConversionOptions(to="llama"))
    layout = plan.layout
    by_kind = layout.by_kind[str(plan.choices["kind"])]
    named = {*layout.template, *layout.reads, *by_kind}
    return {**by_kind, **{key: value for key, value in plan.config.items() if key in named}}
