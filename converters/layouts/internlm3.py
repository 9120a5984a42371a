"""InternLM3: Llama's names; biases on attention's inputs and elsewhere are two switches. No original format
was published.

Facts: internlm/internlm3-8b-instruct configuration_internlm3.py and modeling_internlm3.py.
"""

from __future__ import annotations

from converters.layouts.llama import LLAMA_ROWS
from converters.layouts.table import Layout

HF = Layout(
    family="internlm3",
    format="hf",
    choices={"attention_bias": (False, True), "mlp_bias": (False, True), "kind": ("causal",)},
    rows=LLAMA_ROWS,
    template={
        "model_type": "internlm3",
        "vocab_size": "$vocab_size",
        "hidden_size": "$hidden_size",
        "intermediate_size": "$intermediate_size",
        "num_hidden_layers": "$num_layers",
        "num_attention_heads": "$num_attention_heads",
        "num_key_value_heads": "$num_kv_heads",
        "head_dim": "$head_dim",
        "qkv_bias": "$attention_bias",
        "bias": "$mlp_bias",
        "hidden_act": "silu",
        "max_position_embeddings": "$max_position_embeddings",
        "rms_norm_eps": "$rms_norm_eps",
        "rope_theta": "$rope_theta",
        "rope_scaling": "$rope_scaling",
        "use_cache": True,
        "bos_token_id": "$bos_token_id",
        "eos_token_id": "$eos_token_id",
        "pad_token_id": "$pad_token_id",
        "tie_word_embeddings": False,
        "torch_dtype": "$dtype",
    },
    by_kind={"causal": {"architectures": ["InternLM3ForCausalLM"]}},
    constants={"rope_scaling": None},
    reads={"rope_parameters": "$rope_parameters"},
    demands={"hidden_act": ("silu",), "tie_word_embeddings": (False,)},
    agree=(("qkv_bias", "bias"),),  # Llama has one switch for the biases of q, k, v and o
)
