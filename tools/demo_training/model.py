"""The two architectures in plain torch, their state dicts in the original (InternEvo) layout.

Format facts: InternEvo, internlm/model/modeling_internlm.py and modeling_internlm2.py. A state dict saved
from these modules is an original checkpoint as it stands: packed `Wqkv` [3, heads, head_dim, hidden] with
rotary halves for internlm, grouped `wqkv` [kv_heads, q_per_kv + 2, head_dim, hidden] with interleaved rotary
pairs for internlm2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Rotation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Shape:
    """What decides every tensor's shape and every rotary angle."""

    vocab: int
    hidden: int = 128
    layers: int = 4
    heads: int = 8
    kv_heads: int = 8
    inter: int = 256
    eps: float = 1e-5
    rope_base: float = 10000.0

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


class RMSNorm(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.hidden))
        self.eps = shape.eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def angles(shape: Shape, length: int) -> Tensor:
    """Rotary angles [length, head_dim / 2] for positions 0 to length - 1."""
    step = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    return torch.outer(torch.arange(length, dtype=torch.float32), 1.0 / shape.rope_base**step)


def rotate_halves(x: Tensor, angle: Tensor) -> Tensor:
    """x: [batch, heads, length, head_dim]; pairs are (i, i + head_dim / 2)."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def rotate_pairs(x: Tensor, angle: Tensor) -> Tensor:
    """x: [batch, heads, length, head_dim]; pairs are (2 i, 2 i + 1), as `adapt_hf: False` stores them."""
    a, b = x[..., 0::2], x[..., 1::2]
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)


class PackedAttention(nn.Module):
    """internlm: q, k and v stacked in one `Wqkv`, biases everywhere."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.Wqkv = nn.Linear(shape.hidden, 3 * shape.hidden)
        self.out_proj = nn.Linear(shape.hidden, shape.hidden)

    def forward(self, x: Tensor, angle: Tensor) -> Tensor:
        batch, length, hidden = x.shape
        packed = self.Wqkv(x).view(batch, length, 3, self.shape.heads, self.shape.head_dim)
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(
            rotate_halves(q, angle), rotate_halves(k, angle), v, is_causal=True
        )
        return self.out_proj(y.transpose(1, 2).reshape(batch, length, hidden))


class GroupedAttention(nn.Module):
    """internlm2: per key-value head its queries, then its k, then its v; no biases."""

    def __init__(self, shape: Shape) -> None:
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
        y = F.scaled_dot_product_attention(rotate_pairs(q, angle), rotate_pairs(k, angle), v, is_causal=True)
        return self.wo(y.transpose(1, 2).reshape(batch, length, hidden))


class OlderMLP(nn.Module):
    """internlm's older names: w1 gate, w2 up, w3 down."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.w1 = nn.Linear(shape.hidden, shape.inter, bias=False)
        self.w2 = nn.Linear(shape.hidden, shape.inter, bias=False)
        self.w3 = nn.Linear(shape.inter, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w3(F.silu(self.w1(x)) * self.w2(x))


class FeedForward(nn.Module):
    """internlm2's names: w1 gate, w2 down, w3 up."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.w1 = nn.Linear(shape.hidden, shape.inter, bias=False)
        self.w3 = nn.Linear(shape.hidden, shape.inter, bias=False)
        self.w2 = nn.Linear(shape.inter, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    """One layer of internlm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(shape), RMSNorm(shape)
        self.mixer, self.mlp = PackedAttention(shape), OlderMLP(shape)

    def forward(self, x: Tensor, angle: Tensor) -> Tensor:
        x = x + self.mixer(self.norm1(x), angle)
        return x + self.mlp(self.norm2(x))


class Layer(nn.Module):
    """One layer of internlm2."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm, self.ffn_norm = RMSNorm(shape), RMSNorm(shape)
        self.attention, self.feed_forward = GroupedAttention(shape), FeedForward(shape)

    def forward(self, x: Tensor, angle: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), angle)
        return x + self.feed_forward(self.ffn_norm(x))


class InternLM(nn.Module):
    """Logits [batch, length, vocab] for ids [batch, length]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.ModuleDict({"word_embeddings": nn.Embedding(shape.vocab, shape.hidden)})
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape)
        self.head = nn.Linear(shape.hidden, shape.vocab, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x, angle = self.embedding["word_embeddings"](ids), angles(self.shape, ids.shape[1])
        for block in self.blocks:
            x = block(x, angle)
        return self.head(self.norm(x))


class InternLM2(nn.Module):
    """Logits [batch, length, vocab] for ids [batch, length]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.tok_embeddings = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape)
        self.output = nn.Linear(shape.hidden, shape.vocab, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x, angle = self.tok_embeddings(ids), angles(self.shape, ids.shape[1])
        for layer in self.layers:
            x = layer(x, angle)
        return self.output(self.norm(x))


def initialise(model: nn.Module, seed: int) -> None:
    """Normal weights of deviation 0.02, biases of 0.1 so that none can be lost unnoticed, norms at one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02, generator=generator)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1, generator=generator)


@torch.no_grad()
def last_logits(model: nn.Module, ids: Sequence[int]) -> Tensor:
    """Logits [vocab] that follow the last of `ids`."""
    return model(torch.tensor([list(ids)]))[0, -1]


def greedy(model: nn.Module, ids: Sequence[int], limit: int, stop: int | None) -> tuple[list[int], float]:
    """Up to `limit` most likely tokens after `ids`, ending with `stop` if it comes, and the smallest lead
    (logit of the first choice less that of the second) along the way."""
    chosen: list[int] = []
    lead = float("inf")
    while len(chosen) < limit and (not chosen or chosen[-1] != stop):
        values, indices = last_logits(model, [*ids, *chosen]).topk(2)
        lead = min(lead, float(values[0] - values[1]))
        chosen.append(int(indices[0]))
    return chosen, lead
