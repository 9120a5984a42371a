"""InternLM3: Llama's names; biases on attention's inputs and elsewhere are two switches. No original format
was published.

Facts: internlm/internlm3-8b-instruct configuration_internlm3.py and modeling_internlm3.py.
"""

from __future__ import annotations

from converters.layouts.inert import HF_INERT
from converters.layouts.llama import (
    BIASES,
    GROUPED_CONFIG,
    HF_CHOICES,
    HF_CONSTANTS,
    HF_DEMANDS,
    HF_READS,
    llama_rows,
)
from converters.layouts.table import Layout

HF = Layout(
    family="internlm3",
    format="hf",
    choices={**BIASES, "kind": ("causal",), **HF_CHOICES},
    rows=llama_rows(),
    template={
        **GROUPED_CONFIG,
        "model_type": "internlm3",
        "head_dim": "$head_dim",
        "qkv_bias": "$attention_bias",
        "bias": "$mlp_bias",
    },
    by_kind={"causal": {"architectures": ["InternLM3ForCausalLM"]}},
    constants={**HF_CONSTANTS, "rope_scaling": None},
    reads=HF_READS,
    demands=HF_DEMANDS,
    inert=HF_INERT,
    agree=(("qkv_bias", "bias"),),  # Llama has one switch for the biases of q, k, v and o
)
