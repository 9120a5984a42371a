"""Random models, and how their rows may be arranged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BITS = {"bfloat16": np.uint16, "float16": np.uint16, "float32": np.uint32}
Model = dict[str, np.ndarray]
Cell = tuple[int, int]


@dataclass(frozen=True)
class Dims:
    """A model's sizes. For internlm kv_heads is heads. The defaults can be cut in 1, 2, 4 or 8."""

    family: str = "internlm"
    layers: int = 3
    hidden: int = 32
    heads: int = 8
    kv_heads: int = 8
    inter: int = 48
    vocab: int = 64
    dtype: str = "bfloat16"
    eps: float = 1e-5
    rope_base: int = 10000
    positions: int = 512

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def biased(self) -> bool:
        return self.family == "internlm"


INTERNLM = Dims()
# Heads of 8: with 2 dimensions interleaving is no change, with 4 it is its own inverse.
INTERNLM2 = Dims(family="internlm2", hidden=128, heads=16, kv_heads=8, inter=192, rope_base=1000000)
BOTH = [INTERNLM, INTERNLM2]


@dataclass(frozen=True)
class Variant:
    """How one release spells the same model. storage: own | transposed | shared | padded."""

    embed_split_hidden: bool = True
    embedding_key: str | None = None
    w2_is_up: bool = True  # internlm only
    adapt_hf: bool | None = True  # internlm2 only; None leaves the key out
    fused: bool = True  # internlm2 only: wqkv, or wq, wk, wv
    norm_head: bool = False
    prefix: str = ""
    inv_freq: bool = False
    storage: str = "own"

    def embedding(self, dims: Dims) -> str:
        return self.embedding_key or EMBEDDING_KEYS[dims.family][not self.embed_split_hidden]


# The first as InternEvo's code names it where embed_split_hidden, the second where not.
EMBEDDING_KEYS = {
    "internlm": ("embedding.weight", "embedding.word_embeddings.weight", "tok_embeddings.weight"),
    "internlm2": ("tok_embeddings.weight", "tok_embeddings.word_embeddings.weight"),
}
PLAIN = Variant()


def make_model(dims: Dims, seed: int = 0) -> Model:
    """Finite random bit patterns (below 2 in size), under the names of LlamaForCausalLM."""
    rng = np.random.default_rng(seed)
    bits = BITS[dims.dtype]
    finite = bits(np.iinfo(bits).max - 2 ** (np.iinfo(bits).bits - 2))  # the top bit of the exponent cleared

    def draw(*shape: int) -> np.ndarray:
        return rng.integers(0, np.iinfo(bits).max, shape, dtype=bits, endpoint=True) & finite

    kv = dims.kv_heads * dims.head_dim
    model = {"model.embed_tokens.weight": draw(dims.vocab, dims.hidden)}
    for n in range(dims.layers):
        at = f"model.layers.{n}."
        for part, rows in (("q", dims.hidden), ("k", kv), ("v", kv), ("o", dims.hidden)):
            model[f"{at}self_attn.{part}_proj.weight"] = draw(rows, dims.hidden)
            if dims.biased:
                model[f"{at}self_attn.{part}_proj.bias"] = draw(rows)
        model[f"{at}mlp.gate_proj.weight"] = draw(dims.inter, dims.hidden)
        model[f"{at}mlp.up_proj.weight"] = draw(dims.inter, dims.hidden)
        model[f"{at}mlp.down_proj.weight"] = draw(dims.hidden, dims.inter)
        model[f"{at}input_layernorm.weight"] = draw(dims.hidden)
        model[f"{at}post_attention_layernorm.weight"] = draw(dims.hidden)
    model["model.norm.weight"] = draw(dims.hidden)
    model["lm_head.weight"] = draw(dims.vocab, dims.hidden)
    return model


def interleaved(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """Rotary pairs side by side: Hugging Face's rows i and head_dim/2 + i become rows 2i and 2i + 1."""
    out = np.empty_like(rows)
    half = head_dim // 2
    for start in range(0, len(rows), head_dim):
        for i in range(half):
            out[start + 2 * i] = rows[start + i]
            out[start + 2 * i + 1] = rows[start + half + i]
    return out


def grouped(q: np.ndarray, k: np.ndarray, v: np.ndarray, dims: Dims) -> np.ndarray:
    """Per KV head: its queries, its key, its value."""
    d, per_group = dims.head_dim, dims.heads // dims.kv_heads
    pieces = []
    for g in range(dims.kv_heads):
        for j in range(per_group):
            head = g * per_group + j
            pieces.append(q[head * d : (head + 1) * d])
        pieces += [k[g * d : (g + 1) * d], v[g * d : (g + 1) * d]]
    return np.concatenate(pieces)
