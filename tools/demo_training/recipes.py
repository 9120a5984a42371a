"""The two models as data: shape, tokenizer, documents, schedule, and what their `model_config.pt` says."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from internlm_zoo.miniatures.reference import InternLM, InternLM2, ReferenceShape

from . import text, tokenizer
from .training import Schedule


@dataclass(frozen=True)
class Recipe:
    """All that decides a model. `ask` makes a proverb a prompt; `end` is the token closing an answer."""

    name: str
    family: str
    build: Callable[[ReferenceShape], nn.Module]
    shape: ReferenceShape
    specials: Mapping[str, str]
    epoch: Callable[[random.Random], list[str]]
    schedule: Schedule
    config: Mapping[str, object]
    ask: Callable[[text.Pair], text.Pair]
    end: str | None

    def model_config(self) -> dict[str, object]:
        """What InternEvo pickles beside the weights; keys as in its published training configs."""
        return {
            "checkpoint": False,
            "num_attention_heads": self.shape.heads,
            "num_kv_attention_heads": self.shape.kv_heads,
            "embed_split_hidden": True,
            "vocab_size": self.shape.vocab,
            "embed_grad_scale": 1,
            "parallel_output": True,
            "hidden_size": self.shape.hidden,
            "num_layers": self.shape.layers,
            "mlp_ratio": self.shape.inter / self.shape.hidden,
            "dtype": torch.bfloat16,
            "norm_type": "rmsnorm",
            "layer_norm_epsilon": self.shape.eps,
            "rope_base": int(self.shape.rope_base),
            "max_position_embeddings": self.schedule.window,
            "use_dynamic_ntk_rope": False,
            "use_flash_attn": True,
            "num_chunks": 1,
            **self.config,
        }


def as_it_is(pair: text.Pair) -> text.Pair:
    """The base model is given the beginning of a text."""
    return pair


def as_question(pair: text.Pair) -> text.Pair:
    """The chat model is asked for the rest of a proverb, in its template."""
    return text.rendered(text.asked(pair))


BASE = Recipe(
    name="demo-internlm-base",
    family="internlm",
    build=InternLM,
    shape=ReferenceShape(vocab=1792, bias=True),
    specials=tokenizer.INTERNLM_SPECIALS,
    epoch=text.base_epoch,
    schedule=Schedule(steps=1600),
    config={"model_type": "INTERNLM", "no_bias": False, "apply_post_layer_norm": False},
    ask=as_it_is,
    end=None,
)

CHAT = Recipe(
    name="demo-internlm2-chat",
    family="internlm2",
    build=InternLM2,
    shape=ReferenceShape(vocab=2048, kv_heads=4, rope_base=1e6, pairs=True),
    specials=tokenizer.INTERNLM2_SPECIALS,
    epoch=text.chat_epoch,
    schedule=Schedule(steps=1600),
    config={"model_type": "INTERNLM2_PUBLIC", "no_bias": True, "adapt_hf": False, "norm_head": False},
    ask=as_question,
    end=text.ANSWER_END,
)

RECIPES = (BASE, CHAT)
