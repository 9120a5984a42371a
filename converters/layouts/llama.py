"""Stock Llama, as plain transformers loads it: the names and the config of LlamaForCausalLM.

Facts: transformers 5 models/llama (LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from converters.layouts.inert import HF_INERT
from converters.layouts.table import ANY_READS, Layout, Row, biased, row

_HEADS = "kv_heads q_per_kv halves pairs head_dim"
_LAYER = "model.layers.N."
_LOGICAL = "layers.N."

TIED = "tie_word_embeddings"
UNTIED = {TIED: False}
MLP = {"gate": "inter | hidden", "up": "inter | hidden", "down": "hidden | inter"}

# What the config of every Hugging Face format of the family says in the same words.
HF_CONFIG: Mapping[str, object] = {
    "vocab_size": "$vocab_size",
    "hidden_size": "$hidden_size",
    "intermediate_size": "$intermediate_size",
    "num_hidden_layers": "$num_layers",
    "num_attention_heads": "$num_attention_heads",
    "hidden_act": "silu",
    "max_position_embeddings": "$max_position_embeddings",
    "rms_norm_eps": "$rms_norm_eps",
    "use_cache": True,
    "bos_token_id": "$bos_token_id",
    "eos_token_id": "$eos_token_id",
    "pad_token_id": "$pad_token_id",
    TIED: f"${TIED}",
    "torch_dtype": "$dtype",
}
# swish is transformers' other name of it.
HF_DEMANDS: Mapping[str, tuple[object, ...]] = {"hidden_act": ("silu", "swish")}
# Whether the head is the embedding, and not stored. What configs do not say is False in all of their classes.
HF_CHOICES: Mapping[str, tuple[object, ...]] = {TIED: (False, True)}
BIASES: Mapping[str, tuple[object, ...]] = {"attention_bias": (False, True), "mlp_bias": (False, True)}
HF_CONSTANTS: Mapping[str, object] = {TIED: False}
# As transformers 5 spells them, which reads the older spellings too, and older versions do not read its own.
HF_READS: Mapping[str, str] = {**ANY_READS, "dtype": "$dtype", "rope_parameters": "$rope_parameters"}
# After a conversation this token's score counts: internlm/internlm2-7b-reward, config.json.
REWARD_READS: Mapping[str, str] = {"reward_token_id": "$reward_token_id"}
# Since grouped queries: how many key/value heads, and the rotary embedding as Llama spells it.
GROUPED_CONFIG: Mapping[str, object] = {
    **HF_CONFIG,
    "num_key_value_heads": "$num_kv_heads",
    "rope_theta": "$rope_theta",
    "rope_scaling": "$rope_scaling",
}


def _attention(part: str, dims: str) -> tuple[Row, Row]:
    return biased(
        f"{_LAYER}self_attn.{part}_proj", f"{_LOGICAL}attention.{part}", dims, "kv_heads", "attention_bias"
    )


def _mlp(part: str) -> tuple[Row, Row]:
    return biased(f"{_LAYER}mlp.{part}_proj", f"{_LOGICAL}mlp.{part}", MLP[part], "inter", "mlp_bias")


def llama_rows(mlp: Sequence[str] = ("gate", "up", "down")) -> tuple[Row, ...]:
    """In the order of the modules, which is the order of the shards. mlp: of its three projections."""
    return (
        row("model.embed_tokens.weight", "embed.weight", "vocab | hidden", "vocab"),
        *(rows for part in "qkv" for rows in _attention(part, f"{_HEADS} | hidden")),
        *_attention("o", "hidden | kv_heads q_per_kv head_dim"),
        *(rows for part in mlp for rows in _mlp(part)),
        row(f"{_LAYER}input_layernorm.weight", f"{_LOGICAL}attention_norm.weight", "hidden"),
        row(f"{_LAYER}post_attention_layernorm.weight", f"{_LOGICAL}mlp_norm.weight", "hidden"),
        row("model.norm.weight", "norm.weight", "hidden"),
        row("lm_head.weight", "head.weight", "vocab | hidden", "vocab", kind="causal", **UNTIED),
        row("score.weight", "reward.weight", "score | hidden", kind="reward"),
    )


LLAMA = Layout(
    family="llama",
    format="llama",
    choices={**BIASES, "kind": ("causal", "reward"), **HF_CHOICES},
    rows=llama_rows(),
    template={
        **GROUPED_CONFIG,
        "model_type": "llama",
        "head_dim": "$head_dim",
        "attention_bias": "$attention_bias",
        "mlp_bias": "$mlp_bias",
    },
    by_kind={
        "causal": {"architectures": ["LlamaForCausalLM"]},
        "reward": {"architectures": ["LlamaForSequenceClassification"], "num_labels": 1},
    },
    constants={**HF_CONSTANTS, "rope_scaling": None},
    reads={**HF_READS, **REWARD_READS},
    demands={**HF_DEMANDS, "pretraining_tp": (1,)},
    inert=HF_INERT,
)
