"""A Llama in a GGUF file, as llama.cpp and what is built on it open it. Biases are optional there.

Rows of queries and keys are stored with rotary pairs interleaved (pairs before halves): the rope of this
architecture turns neighbours. Facts: llama.cpp conversion/llama.py (permute), gguf-py constants.py and
tensor_mapping.py, src/models/llama.cpp (TENSOR_NOT_REQUIRED).
"""

from __future__ import annotations

from converters.containers import gguf_file
from converters.layouts.llama import BIASES, MLP
from converters.layouts.table import ANY_READS, Layout, Row, biased, row

ARCHITECTURE = "llama"
_TURNED = "kv_heads q_per_kv pairs halves"
_LAYER, _LOGICAL = "blk.N.", "layers.N."


def _attention(stored: str, part: str, dims: str) -> tuple[Row, Row]:
    return biased(f"{_LAYER}{stored}", f"{_LOGICAL}attention.{part}", dims, "kv_heads", "attention_bias")


def _mlp(part: str) -> tuple[Row, Row]:
    return biased(f"{_LAYER}ffn_{part}", f"{_LOGICAL}mlp.{part}", MLP[part], "inter", "mlp_bias")


GGUF = Layout(
    family=ARCHITECTURE,
    format="gguf",
    container=gguf_file.GGUF,
    omits=("dynamic",),
    vectors="F32",
    choices={**BIASES, "kind": ("causal",)},
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
