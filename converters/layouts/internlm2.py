"""InternLM2 and 2.5: grouped wqkv, no biases.

adapt_hf False: query and key rows of a head are stored with rotary pairs interleaved (pairs before halves).
Newer InternEvo says the same as qk_interleaved True. Both are written: its launch.py demands that they agree,
and its tools/load_internlm2_model.py drops adapt_hf and reads the other. A config with neither is of either.
Facts: InternLM/InternEvo c628a8c internlm/model/modeling_internlm2.py, transformers/convert2hf_internlm2.py;
internlm/internlm2-7b modeling_internlm2.py; InternLM/lmdeploy module_map.py (reward models).
"""

from __future__ import annotations

from converters.containers.torch_grid import TORCH_GRID
from converters.layouts.inert import HF_INERT
from converters.layouts.internevo import ORIGINAL_DEMANDS, ORIGINAL_INERT, TOKEN_IDS
from converters.layouts.llama import (
    GROUPED_CONFIG,
    HF_CHOICES,
    HF_CONSTANTS,
    HF_DEMANDS,
    HF_READS,
    REWARD_READS,
    UNTIED,
)
from converters.layouts.table import ANY_READS, Layout, Row, row

# As in internlm.py: Embedding1D has the one name and cuts along hidden, ParallelGPT2Embeddings the other.
_EMBED = "tok_embeddings.weight tok_embeddings.word_embeddings.weight"
_EMBED_BY_VOCAB = "tok_embeddings.word_embeddings.weight tok_embeddings.weight"
_ATTENTION = "layers.N.attention."
_Q, _K, _V = (f"{_ATTENTION}{part}.weight" for part in "qkv")
_QKV = f"{_Q} {_K} {_V}"
_HEADS = "kv_heads q_per_kv halves pairs"
_INTERLEAVED = "kv_heads q_per_kv pairs halves"
_FUSED = "kv_heads parts q_per_kv halves pairs head_dim | hidden"
_FUSED_INTERLEAVED = "kv_heads parts q_per_kv pairs halves head_dim | hidden"
_O = "hidden | kv_heads q_per_kv head_dim"


def _split(stored: str, logical: str) -> tuple[Row, Row]:
    """A projection of its own, with the rotary pairs of its heads in either order."""
    name = f"{_ATTENTION}{stored}.weight"
    return (
        row(name, logical, f"{_HEADS} | hidden", "kv_heads", qkv="split", adapt_hf=True),
        row(name, logical, f"{_INTERLEAVED} | hidden", "kv_heads", qkv="split", adapt_hf=False),
    )


ORIGINAL = Layout(
    family="internlm2",
    format="original",
    container=TORCH_GRID,
    prefix="model.",
    choices={
        "qkv": ("fused", "split"),
        "adapt_hf": (True, False),
        "embed_split_hidden": (True, False),
        "norm_head": (False, True),
    },
    rows=(
        row(_EMBED, "embed.weight", "vocab | hidden", "hidden", embed_split_hidden=True),
        row(_EMBED_BY_VOCAB, "embed.weight", "vocab | hidden", "vocab", embed_split_hidden=False),
        row("layers.N.attention_norm.weight", "layers.N.attention_norm.weight", "hidden"),
        row("layers.N.ffn_norm.weight", "layers.N.mlp_norm.weight", "hidden"),
        row(f"{_ATTENTION}wqkv.weight", _QKV, _FUSED, "kv_heads", qkv="fused", adapt_hf=True),
        row(f"{_ATTENTION}wqkv.weight", _QKV, _FUSED_INTERLEAVED, "kv_heads", qkv="fused", adapt_hf=False),
        *_split("wq", _Q),
        *_split("wk", _K),
        row(f"{_ATTENTION}wv.weight", _V, "kv_heads head_dim | hidden", "kv_heads", qkv="split"),
        row(f"{_ATTENTION}wo.weight", "layers.N.attention.o.weight", _O, "kv_heads"),
        row("layers.N.feed_forward.w1.weight", "layers.N.mlp.gate.weight", "inter | hidden", "inter"),
        row("layers.N.feed_forward.w3.weight", "layers.N.mlp.up.weight", "inter | hidden", "inter"),
        row("layers.N.feed_forward.w2.weight", "layers.N.mlp.down.weight", "hidden | inter", "inter"),
        row("norm.weight", "norm.weight", "hidden"),
        row("output.weight", "head.weight", "vocab | hidden", "vocab"),
    ),
    template={
        "model_type": "INTERNLM2_PUBLIC",
        "num_attention_heads": "$num_attention_heads",
        "num_kv_attention_heads": "$num_kv_heads",
        "embed_split_hidden": "$embed_split_hidden",
        "vocab_size": "$vocab_size",
        "hidden_size": "$hidden_size",
        "num_layers": "$num_layers",
        "mlp_ratio": "$mlp_ratio",
        "dtype": "$torch_dtype",
        "norm_type": "rmsnorm",
        "layer_norm_epsilon": "$rms_norm_eps",
        "no_bias": True,
        "adapt_hf": "$adapt_hf",
        "qk_interleaved": "$qk_interleaved",
        "norm_head": "$norm_head",
        "rope_base": "$rope_theta",
        "max_position_embeddings": "$max_position_embeddings",
        "use_dynamic_ntk_rope": "$use_dynamic_ntk_rope",
        "rope_scaling": "$rope_scaling",
        "num_chunks": 1,
    },
    reads=ANY_READS,
    constants={
        "norm_head": False,
        "attention_bias": False,
        "use_dynamic_ntk_rope": False,
        **TOKEN_IDS,
    },
    demands={**ORIGINAL_DEMANDS, "no_bias": (True,)},
    inert=ORIGINAL_INERT,
)

HF = Layout(
    family="internlm2",
    format="hf",
    choices={"kind": ("causal", "reward"), **HF_CHOICES},
    rows=(
        row("model.tok_embeddings.weight", "embed.weight", "vocab | hidden", "vocab"),
        row(f"model.{_ATTENTION}wqkv.weight", _QKV, _FUSED, "kv_heads"),
        row(f"model.{_ATTENTION}wo.weight", "layers.N.attention.o.weight", _O, "kv_heads"),
        row("model.layers.N.feed_forward.w1.weight", "layers.N.mlp.gate.weight", "inter | hidden", "inter"),
        row("model.layers.N.feed_forward.w3.weight", "layers.N.mlp.up.weight", "inter | hidden", "inter"),
        row("model.layers.N.feed_forward.w2.weight", "layers.N.mlp.down.weight", "hidden | inter", "inter"),
        row("model.layers.N.attention_norm.weight", "layers.N.attention_norm.weight", "hidden"),
        row("model.layers.N.ffn_norm.weight", "layers.N.mlp_norm.weight", "hidden"),
        row("model.norm.weight", "norm.weight", "hidden"),
        row("output.weight", "head.weight", "vocab | hidden", "vocab", kind="causal", **UNTIED),
        row("v_head.weight", "reward.weight", "score | hidden", kind="reward"),
    ),
    template={**GROUPED_CONFIG, "model_type": "internlm2", "bias": False},
    by_kind={
        "causal": {"architectures": ["InternLM2ForCausalLM"]},
        "reward": {"architectures": ["InternLM2ForRewardModel"]},
    },
    reads={**HF_READS, **REWARD_READS, "head_dim": "$head_dim"},
    constants={**HF_CONSTANTS, "attention_bias": False, "rope_scaling": None},
    demands={**HF_DEMANDS, "bias": (False,)},
    inert=HF_INERT,
)
