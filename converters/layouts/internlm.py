"""InternLM (7B, 20B): packed Wqkv, biases on attention, as many key/value heads as query heads.

Facts: InternLM/InternEvo c628a8c internlm/model/modeling_internlm.py, transformers/convert2hf_internlm.py;
internlm/internlm-7b modeling_internlm.py and configuration_internlm.py (rotary).
"""

from __future__ import annotations

from converters.containers.torch_grid import TORCH_GRID
from converters.layouts.inert import HF_INERT
from converters.layouts.internevo import ORIGINAL_DEMANDS, ORIGINAL_INERT, TOKEN_IDS
from converters.layouts.llama import (
    HF_CHOICES,
    HF_CONFIG,
    HF_CONSTANTS,
    HF_DEMANDS,
    HF_READS,
    MLP,
    llama_rows,
)
from converters.layouts.table import ANY_READS, Layout, Row, row

_QKV = "layers.N.attention.{0}.{1}"
_QKV_WEIGHTS = " ".join(_QKV.format(part, "weight") for part in "qkv")
_QKV_BIASES = " ".join(_QKV.format(part, "bias") for part in "qkv")
# InternEvo's Embedding1D has the one name and cuts along hidden, ParallelGPT2Embeddings the other and vocab.
# Its loader only warns of a name it misses, so the name that is written has to be the right one.
_EMBED = "embedding.weight embedding.word_embeddings.weight tok_embeddings.weight"
_EMBED_BY_VOCAB = "embedding.word_embeddings.weight embedding.weight tok_embeddings.weight"
_PACKED = "parts kv_heads q_per_kv halves pairs head_dim"
_O = "hidden | kv_heads q_per_kv head_dim"
_INTERLEAVED = "parts kv_heads q_per_kv pairs halves head_dim"


def _qkv(axes: str, **when: object) -> tuple[Row, Row]:
    return (
        row("blocks.N.mixer.Wqkv.weight", _QKV_WEIGHTS, f"{axes} | hidden", "kv_heads", **when),
        row("blocks.N.mixer.Wqkv.bias", _QKV_BIASES, axes, "kv_heads", attention_bias=True, **when),
    )


_READERS = {
    "down_up": "w2 is the down projection and w3 is up (mlp_order down_up), as InternEvo's training code "
    "reads them (c628a8c); the vendor's convert2hf_internlm.py and every released checkpoint have them the "
    "other way round: `given={'mlp_order': 'up_down'}`",
    "up_down": "w2 is up and w3 is the down projection (mlp_order up_down), as in every released checkpoint "
    "and as the vendor's convert2hf_internlm.py reads them; InternEvo's training code (c628a8c) has them the "
    "other way round: `given={'mlp_order': 'down_up'}`",
}

ORIGINAL = Layout(
    family="internlm",
    format="original",
    container=TORCH_GRID,
    prefix="model.",
    choices={
        # Checkpoints before InternEvo's feed-forward of 2024 have it up_down: w2 is up and w3 is down.
        "mlp_order": ("down_up", "up_down"),
        "embed_split_hidden": (True, False),
        "adapt_hf": (True, False),
        "attention_bias": (True, False),
    },
    readers={"mlp_order": _READERS},
    rows=(
        row(_EMBED, "embed.weight", "vocab | hidden", "hidden", embed_split_hidden=True),
        row(_EMBED_BY_VOCAB, "embed.weight", "vocab | hidden", "vocab", embed_split_hidden=False),
        row("blocks.N.norm1.weight", "layers.N.attention_norm.weight", "hidden"),
        row("blocks.N.norm2.weight", "layers.N.mlp_norm.weight", "hidden"),
        *_qkv(_PACKED, adapt_hf=True),
        *_qkv(_INTERLEAVED, adapt_hf=False),
        row("blocks.N.mixer.out_proj.weight", "layers.N.attention.o.weight", _O, "kv_heads"),
        row("blocks.N.mixer.out_proj.bias", "layers.N.attention.o.bias", "hidden", attention_bias=True),
        row("blocks.N.mlp.w1.weight", "layers.N.mlp.gate.weight", "inter | hidden", "inter"),
        *(
            row(f"blocks.N.mlp.{w}.weight", f"layers.N.mlp.{p}.weight", MLP[p], "inter", mlp_order=order)
            for order in _READERS
            for w, p in zip(("w2", "w3"), order.split("_"), strict=True)
        ),
        row("norm.weight", "norm.weight", "hidden"),
        row("head.weight", "head.weight", "vocab | hidden", "vocab"),
    ),
    template={
        "model_type": "INTERNLM",
        "num_attention_heads": "$num_attention_heads",
        "embed_split_hidden": "$embed_split_hidden",
        "mlp_order": "$mlp_order",  # not InternEvo's, which ignores it: shapes alone cannot always tell
        "vocab_size": "$vocab_size",
        "hidden_size": "$hidden_size",
        "num_layers": "$num_layers",
        "mlp_ratio": "$mlp_ratio",
        "dtype": "$torch_dtype",
        "norm_type": "rmsnorm",
        "layer_norm_epsilon": "$rms_norm_eps",
        "no_bias": "$no_bias",
        "qk_interleaved": "$qk_interleaved",
        "rope_base": "$rope_theta",
        "max_position_embeddings": "$max_position_embeddings",
        "use_dynamic_ntk_rope": "$use_dynamic_ntk_rope",
        "rope_scaling": "$rope_scaling",
        "num_chunks": 1,
    },
    reads={**ANY_READS, "adapt_hf": "$adapt_hf", "num_kv_attention_heads": "$num_kv_heads"},
    # The code of the released models rotates halves and has no such key; InternEvo since #401 adds it.
    constants={"adapt_hf": True, "rope_theta": 10000, "use_dynamic_ntk_rope": False, **TOKEN_IDS},
    demands=ORIGINAL_DEMANDS,
    inert=ORIGINAL_INERT,
)

HF = Layout(
    family="internlm",
    format="hf",
    choices={"attention_bias": (True, False), "mlp_bias": (False,), "kind": ("causal",), **HF_CHOICES},
    rows=llama_rows(mlp=("gate", "down", "up")),
    template={**HF_CONFIG, "model_type": "internlm", "bias": "$attention_bias", "rotary": "$rotary"},
    by_kind={"causal": {"architectures": ["InternLMForCausalLM"]}},
    reads={
        **HF_READS,
        "rope_theta": "$rope_theta",
        "rope_scaling": "$rope_scaling",
        "num_key_value_heads": "$num_kv_heads",
        "head_dim": "$head_dim",
    },
    # configuration_internlm.py writes `rotary` out; configs without it are of the code before it, which knew
    # one base and no scaling.
    constants={**HF_CONSTANTS, "rotary": {"base": 10000, "type": "origin"}, **TOKEN_IDS},
    demands=HF_DEMANDS,
    inert=HF_INERT,
)
