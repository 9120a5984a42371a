"""Every registry model in small: its layout, head grouping, biases, vocabulary, element type, special tokens
and chat template, on few small layers of random weights. By rule, not by file, so what is added to it has one
too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from converters.geometry.cells import Grid, uniform_stages
from converters.layouts import layout_of, layouts_in
from converters.tokenizer.synthetic import FIXED, synthetic_tokenizer
from internlm_zoo.checkpoints.contradictions import Expected, expected_of
from internlm_zoo.errors import UnsupportedError
from internlm_zoo.miniatures.random_checkpoint import Blueprint, write_random
from internlm_zoo.registry import Model, Registry
from internlm_zoo.registry.schema import Shape

LAYERS, KV_HEADS, HEAD_DIM, CONTEXT = 2, 2, 4, 2048  # the least that two ranks and two stages can share
TP, PP = 2, 2
# The layouts' choices that make conversion work hardest, and that released models were written with; what is
# not here is each layout's own first choice.
_CHOICES = {"adapt_hf": False, "mlp_order": "up_down"}
_KEPT = ("rope_scaling", "rms_norm_eps", "max_position_embeddings", "reward_token_id")
# The sizes that are a miniature's own; all else is its model's.
_MADE = ("hidden_size", "intermediate_size", "num_layers", "num_attention_heads", "num_kv_heads")
_CODES = {"bfloat16": "BF16", "float16": "F16"}


def draw_miniature(
    model: Model, registry: Registry, target: Path, *, tp: int = TP, pp: int = PP
) -> Blueprint:
    """Write the miniature of a model into a directory that exists; returns what it was made from. tp, pp: of
    an original, into which no other format is divided.

    Raises UnsupportedError if the registry knows no shape for it.
    """
    blueprint = blueprint_of(model, registry, tp, pp)
    write_random(blueprint, target)
    ids = special_ids(model, registry, blueprint.sizes["vocab"])
    template = registry.chat_template_of(model)
    for file, content in _tokenizer(blueprint.sizes["vocab"], tuple(ids.items()), template).items():
        (target / file).write_bytes(content)
    return blueprint


def expected_of_miniature(model: Model, registry: Registry, blueprint: Blueprint) -> Expected:
    """What the registry says of the model, but for the sizes that the miniature was made with."""
    expected, ids = expected_of(model, registry), special_ids(model, registry, blueprint.sizes["vocab"])
    made = {fact: blueprint.facts[fact] for fact in _MADE}
    tokens = {
        role: token.model_copy(update={"id": ids.get(token.token or "", token.id)})
        for role, token in expected.tokens.items()
    }
    return replace(expected, facts={**expected.facts, **made}, tokens=tokens)


def has_original(model: Model, registry: Registry) -> bool:
    """Reward models were never released in the original format, nor was InternLM3."""
    layout = registry.family_of(model).layout
    original = any(known.family == layout for known in layouts_in("original"))
    return original and model.kind != "reward"


def blueprint_of(model: Model, registry: Registry, tp: int = TP, pp: int = PP) -> Blueprint:
    """What a miniature is made from. Raises UnsupportedError if the registry knows no shape for it."""
    shape = registry.shape_of(model)
    if shape is None:
        what = "neither the model nor its family states an architecture"
        raise UnsupportedError(what, model.name, "add one to the registry")
    layout = layout_of(
        registry.family_of(model).layout, "original" if has_original(model, registry) else "hf"
    )
    facts, sizes = _measures(shape, model, registry)
    choices: dict[str, object] = {name: facts.get(name, values[0]) for name, values in layout.choices.items()}
    grid = Grid(tp, uniform_stages(LAYERS, pp)) if layout.container.parallel else Grid(1, (range(LAYERS),))
    return Blueprint(layout, facts, sizes, choices, grid, _CODES[facts["dtype"]])


def _measures(shape: Shape, model: Model, registry: Registry) -> tuple[dict[str, Any], dict[str, int]]:
    """Facts and axes: as many queries per key/value head as the model has, but few heads; what the registry
    says of scaling, epsilon and context."""
    per_kv = shape.num_attention_heads // shape.num_kv_heads
    heads = KV_HEADS * per_kv
    hidden = heads * HEAD_DIM
    expected = expected_of(model, registry)
    ends = [token.id for token in registry.stop_tokens_of(model) if token.id is not None]
    known = {fact: value for fact, value in expected.facts.items() if fact in _KEPT}
    facts = {
        **_CHOICES,
        "kind": "reward" if model.kind == "reward" else "causal",
        "num_attention_heads": heads,
        "num_kv_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_layers": LAYERS,
        "vocab_size": shape.vocab_size,
        "attention_bias": shape.attention_bias,
        "mlp_bias": False,
        "rope_theta": shape.rope_theta or 10000,
        "rope_scaling": None,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": CONTEXT,
        **known,
        "dtype": _dtype(model),
        "bos_token_id": 1,
        "eos_token_id": ends if len(ends) > 1 and model.kind != "reward" else 2,
        "pad_token_id": 2,
    }
    sizes = {
        "vocab": shape.vocab_size,
        "hidden": hidden,
        "inter": 3 * hidden,
        "kv_heads": KV_HEADS,
        "q_per_kv": per_kv,
        "halves": 2,
        "pairs": HEAD_DIM // 2,
        "head_dim": HEAD_DIM,
        "score": 1,
        "layers": LAYERS,
    }
    return facts, sizes


def _dtype(model: Model) -> str:
    """As released, where that is stated and of 16 bits."""
    stated = model.released_config.get("torch_dtype")
    return str(stated) if stated in _CODES else "bfloat16"


def special_ids(model: Model, registry: Registry, vocab: int) -> Mapping[str, int]:
    """Text -> id of the special tokens; where no source states an id, one of the last of the vocabulary."""
    known: dict[str, int] = {text: FIXED.index(text) for text in FIXED[:3]}
    unknown = []
    for token in registry.special_tokens_of(model).values():
        if token.token is not None and token.id is not None:
            known[token.token] = token.id
        elif token.token is not None and token.token not in known:
            unknown.append(token.token)
    return known | {text: vocab - len(unknown) + n for n, text in enumerate(unknown)}


@cache
def _tokenizer(vocab: int, ids: tuple[tuple[str, int], ...], template: str | None) -> Mapping[str, bytes]:
    return synthetic_tokenizer(vocab, dict(ids), chat_template=template)
