"""A Llama in a GGUF file, as llama.cpp and what is built on it open it. Biases are optional there.

Rows of queries and keys are stored with rotary pairs interleaved (pairs before halves): the rope of this
architecture turns neighbours. Facts: llama.cpp conversion/llama.py (permute), gguf-py constants.py and
tensor_mapping.py, src/models/llama.cpp (TENSOR_NOT_REQUIRED).
"""

from __future__ import annotations

from converters.containers import gguf_file
from converters.layouts.table import ANY_READS, Layout, Row, row

ARCHITECTURE = "llama"
_TURNED = "kv_heads q_per_kv pairs halves"
_LAYER, _LOGICAL = "blk.N.", "layers.N."
_MLP = {"gate": "inter | hidden", "up": "inter | hidden", "down": "hidden | inter"}


def _attention(stored: str, logical: str, dims: str) -> tuple[Row, Row]:
    """A projection and its bias, which runs along its rows."""
    rows = dims.partition(" |")[0]
    return (
        row(f"{_LAYER}{stored}.weight", f"{_LOGICAL}attention.{logical}.weight", dims, "kv_heads"),
        row(
            f"{_LAYER}{stored}.bias",
            f"{_LOGICAL}attention.{logical}.bias",
            rows,
            "kv_heads" if "kv_heads" in rows else None,
            attention_bias=True,
        ),
    )


def _mlp(part: str) -> tuple[Row, Row]:
    stored, logical, dims = f"{_LAYER}ffn_{part}", f"{_LOGICAL}mlp.{part}", _MLP[part]
    rows = dims.partition(" |")[0]
    split = "inter" if rows == "inter" else None
    return (
        row(f"{stored}.weight", f"{logical}.weight", dims, "inter"),
        row(f"{stored}.bias", f"{logical}.bias", rows, split, mlp_bias=True),
    )


GGUF = Layout(
    family=ARCHITECTURE,
    format="gguf",
    container=gguf_file.GGUF,
    omits=("dynamic",),
    vectors="F32",
    choices={"attention_bias": (False, True), "mlp_bias": (False, True), "kind": ("causal",)},
    rows=(
        row("token_embd.weight", "embed.weight", "vocab | hidden", "vocab"),
        row(f"{_LAYER}attn_norm.weight", f"{_LOGICAL}attention_norm.weight", "hidden"),
        *_attention("attn_q", "q", f"{_TURNED} | hidden"),
        *_attention("attn_k", "k", f"{_TURNED} | hidden"),
        *_attention("attn_v", "v", "kv_heads head_dim | hidden"),
        *_attention("attn_output", "o", "hidden | kv_heads q_per_kv head_dim"),
        row(f"{_LAYER}ffn_norm.weight", f"{_LOGICAL}mlp_norm.weight", "hidden"),
        *_mlp("gate"),
        *_mlp("up"),
        *_mlp("down"),
        row("output_norm.weight", "norm.weight", "hidden"),
        row("output.weight", "head.weight", "vocab | hidden", "vocab"),
    ),
    template={
        "general.architecture": ARCHITECTURE,
        "general.file_type": "$gguf_file_type",
        "general.quantization_version": 2,
        "llama.vocab_size": "$vocab_size",
        "llama.context_length": "$max_position_embeddings",
        "llama.embedding_length": "$hidden_size",
        "llama.block_count": "$num_layers",
        "llama.feed_forward_length": "$intermediate_size",
        "llama.attention.head_count": "$num_attention_heads",
        "llama.attention.head_count_kv": "$num_kv_heads",
        "llama.attention.key_length": "$head_dim",
        "llama.attention.value_length": "$head_dim",
        "llama.attention.layer_norm_rms_epsilon": "$rms_norm_eps",
        "llama.rope.dimension_count": "$head_dim",
        "llama.rope.freq_base": "$rope_theta",
        "llama.rope.scaling": "$gguf_scaling",
        "tokenizer.ggml.bos_token_id": "$bos_token_id",
        "tokenizer.ggml.eos_token_id": "$eos_token_id",
        "tokenizer.ggml.padding_token_id": "$pad_token_id",
    },
    reads=ANY_READS,
    constants={"rope_scaling": None, "rope_theta": 10000.0},
    demands={"general.architecture": (ARCHITECTURE,), "llama.expert_count": (0,)},
)
