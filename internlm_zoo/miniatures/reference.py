"""The three architectures in plain torch, which share no code with `converters` or loading: the demo models
are trained as these, and what every miniature computes is held against them.

Their state dicts are checkpoints as they stand, of the first two in the original (InternEvo) layout, of the
third as it is released. Format facts: InternEvo, internlm/model/modeling_internlm.py and
modeling_internlm2.py: packed `Wqkv` [3, heads, head_dim, hidden] for internlm, grouped `wqkv`
[kv_heads, q_per_kv + 2, head_dim, hidden] for internlm2; internlm/internlm3-8b-instruct
modeling_internlm3.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Rotation = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ReferenceShape:
    """What decides every tensor's shape and every rotary angle. pairs: whether queries and keys are in rotary
    pairs (`adapt_hf: False`) instead of halves. bias: of attention, in internlm and internlm3. outputs: rows
    of the head, None for one for each token; 1 is a reward model."""

    vocab: int
    hidden: int = 128
    layers: int = 4
    heads: int = 8
    kv_heads: int = 8
    inter: int = 256
    eps: float = 1e-5
    rope_base: float = 10000.0
    pairs: bool = False
    bias: bool = False
    outputs: int | None = None

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def rotate(self) -> Rotation:
        return rotate_pairs if self.pairs else rotate_halves

    def head(self) -> nn.Linear:
        return nn.Linear(self.hidden, self.outputs or self.vocab, bias=False)


class RMSNorm(nn.Module):
    def __init__(self, shape: ReferenceShape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.hidden))
        self.eps = shape.eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def angles(shape: ReferenceShape, length: int) -> Tensor:
    """Rotary angles [length, head_dim / 2] for positions 0 to length - 1."""
    step = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    return torch.outer(torch.arange(length, dtype=torch.float32), 1.0 / shape.rope_base**step)


def rotate_halves(x: Tensor, angle: Tensor) -> Tensor:
    """x: [batch, heads, length, head_dim]; pairs are (i, i + head_dim / 2)."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def rotate_pairs(x: Tensor, angle: Tensor) -> Tensor:
    """x: [batch, heads, length, head_dim]; pairs are (2 i, 2 i + 1)."""
    a, b = x[..., 0::2], x[..., 1::2]
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)


class PackedAttention(nn.Module):
    """internlm: q, k and v stacked in one `Wqkv`."""

    def __init__(self, shape: ReferenceShape) -> None:
        super().__init__()
        self.shape = shape
        self.Wqkv = nn.Linear(shape.hidden, 3 * shape.hidden, shape.bias)
        self.out_proj = nn.Linear(shape.hidden, shape.hidden, shape.bias)

    def forward(self, x: Tensor, angle: Tensor) -> Tensor:
        batch, length, hidden = x.shape
        packed = self.Wqkv(x).view(batch, length, 3, self.shape.heads, self.shape.head_dim)
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        rotate = self.shape.rotate
        y = F.scaled_dot_product_attention(rotate(q, angle), rotate(k, angle), v, is_causal=True)
        return self.out_proj(y.transpose(1, 2).reshape(batch, length, hidden))


class GroupedAttention(nn.Module):
    """internlm2: per key-value head its queries, then its k, then its v; no biases."""

    def __init__(self, shape: ReferenceShape) -> None:
        super().__init__()
        self.shape = shape
        self.wqkv = nn.Linear(shape.hidden, (shape.heads + 2 * shape.kv_heads) * shape.head_dim, bias=False)
        self.wo = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def forward(self, x: Tensor, angle: Tensor) -> Tensor:
        batch, length, hidden = x.shape
        per_group = self.shape.heads // self.shape.kv_heads
        grouped = self.wqkv(x).view(batch, length, self.shape.kv_heads, per_group + 2, self.shape.head_dim)
        q = grouped[..., :per_group, :].flatten(2, 3).transpose(1, 2)
        k = grouped[..., -2, :].repeat_interleave(per_group, dim=2).transpose(1, 2)
        v = grouped[..., -1, :].repeat_interleave(per_group, dim=2).transpose(1, 2)
        rotate = self.shape.rotate
        y = F.scaled_dot_product_attention(rotate(q, angle), rotate(k, angle), v, is_causal=True)
        return self.wo(y.transpose(1, 2).reshape(batch, length, hidden))


class SeparateAttention(nn.Module):
    """internlm3: q, k and v for themselves."""

    def __init__(self, shape: ReferenceShape) -> None:
        super().__init__()
        self.shape = shape
        few = shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, shape.hidden, shape.bias)
        self.k_proj = nn.Linear(shape.hidden, few, shape.bias)
        self.v_proj = nn.Linear(shape.hidden, few, shape.bias)
        self.o_proj = nn.Linear(shape.hidden, shape.hidden, shape.bias)

    def forward(self, x: Tensor, angle: Tensor) -> Tensor:
        batch, length, hidden = x.shape
        q, k, v = (
            part(x).view(batch, length, -1, self.shape.head_dim).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        per_group, rotate = self.shape.heads // self.shape.kv_heads, self.shape.rotate
        k, v = (part.repeat_interleave(per_group, dim=1) for part in (rotate(k, angle), v))
        y = F.scaled_dot_product_attention(rotate(q, angle), k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, hidden))


class OlderMLP(nn.Module):
    """internlm's older names: w1 gate, w2 up, w3 down."""

    def __init__(self, shape: ReferenceShape) -> None:
        super().__init__()
        self.w1 = nn.Linear(shape.hidden, shape.inter, bias=False)
        self.w2 = nn.Linear(shape.hidden, shape.inter, bias=False)
        self.w3 = nn.Linear(shape.inter, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w3(F.silu(self.w1(x)) * self.w2(x))


class FeedForward(nn.Module):
    """internlm2's names: w1 gate, w2 down, w3 up."""

    def __init__(self, shape: ReferenceShape) -> None:
        super().__init__()
        self.w1 = nn.Linear(shape.hidden, shape.inter, bias=False)
        self.w3 = nn.Linear(shape.hidden, shape.inter, bias=False)
        self.w2 = nn.Linear(shape.inter, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class LlamaMLP(nn.Module):
    """internlm3's names, which are Llama's."""

    def __init__(self, shape: ReferenceShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.inter, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.inter, bias=False)
        self.down_proj = nn.Linear(shape.inter, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One layer of internlm."""

    def __init__(self, shape: ReferenceShape) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(shape), RMSNorm(shape)
        self.mixer, self.mlp = PackedAttention(shape), OlderMLP(shape)

    def forward(self, x: Tensor, angle: Tensor) -> Tensor:
        x = x + self.mixer(self.norm1(x), angle)
        return x + self.mlp(self.norm2(x))


class Layer(nn.Module):
    """One layer of internlm2."""

    def __init__(self, shape: ReferenceShape) -> None:
        super().__init__()
        self.attention_norm, self.ffn_norm = RMSNorm(shape), RMSNorm(shape)
        self.attention, self.feed_forward = GroupedAttention(shape), FeedForward(shape)

    def forward(self, x: Tensor, angle: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), angle)
        return x + self.feed_forward(self.ffn_norm(x))


class LlamaLayer(nn.Module):
    """One layer of internlm3."""

    def __init__(self, shape: ReferenceShape) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(shape), RMSNorm(shape)
        self.self_attn, self.mlp = SeparateAttention(shape), LlamaMLP(shape)

    def forward(self, x: Tensor, angle: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), angle)
        return x + self.mlp(self.post_attention_layernorm(x))


class InternLM(nn.Module):
    """Logits [batch, length, vocab] for ids [batch, length]."""

    def __init__(self, shape: ReferenceShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.ModuleDict({"word_embeddings": nn.Embedding(shape.vocab, shape.hidden)})
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape)
        self.head = shape.head()

    def forward(self, ids: Tensor) -> Tensor:
        x, angle = self.embedding["word_embeddings"](ids), angles(self.shape, ids.shape[1])
        for block in self.blocks:
            x = block(x, angle)
        return self.head(self.norm(x))


class InternLM2(nn.Module):
    """Logits [batch, length, vocab] for ids [batch, length]."""

    def __init__(self, shape: ReferenceShape) -> None:
        super().__init__()
        self.shape = shape
        self.tok_embeddings = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape)
        self.output = shape.head()

    def forward(self, ids: Tensor) -> Tensor:
        x, angle = self.tok_embeddings(ids), angles(self.shape, ids.shape[1])
        for layer in self.layers:
            x = layer(x, angle)
        return self.output(self.norm(x))


class InternLM3(nn.Module):
    """Logits [batch, length, vocab] for ids [batch, length]."""

    def __init__(self, shape: ReferenceShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(LlamaLayer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape)
        self.lm_head = shape.head()

    def forward(self, ids: Tensor) -> Tensor:
        x, angle = self.embed_tokens(ids), angles(self.shape, ids.shape[1])
        for layer in self.layers:
            x = layer(x, angle)
        return self.lm_head(self.norm(x))


ARCHITECTURES: Mapping[str, type[nn.Module]] = {
    "internlm": InternLM,
    "internlm2": InternLM2,
    "internlm3": InternLM3,
}
"""By layout."""
