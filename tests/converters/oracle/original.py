"""The original format: the state dicts that InternEvo's ranks would save, and their config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.converters.bits import columns_of, rows_of, stored, to_bits
from tests.converters.oracle.models import (
    EMBEDDING_KEYS,
    PLAIN,
    Cell,
    Dims,
    Model,
    Variant,
    grouped,
    interleaved,
)


def stages_of(layers: int, pp: int) -> tuple[int, ...]:
    """How InternEvo's partition_uniform shares layers among stages: the last ones take what is left over."""
    least, more = divmod(layers, pp)
    return tuple(least + (p >= pp - more) for p in range(pp))


def internlm_layer(model: Model, at: str, rank: int, tp: int, how: Variant) -> Model:
    up, down = ("w2", "w3") if how.w2_is_up else ("w3", "w2")
    attention = f"{at}self_attn."

    def packed(kind: str) -> np.ndarray:
        return np.concatenate([rows_of(model[f"{attention}{p}_proj.{kind}"], rank, tp) for p in "qkv"])

    return {
        "norm1.weight": model[f"{at}input_layernorm.weight"],
        "norm2.weight": model[f"{at}post_attention_layernorm.weight"],
        "mixer.Wqkv.weight": packed("weight"),
        "mixer.Wqkv.bias": packed("bias"),
        "mixer.out_proj.weight": columns_of(model[f"{attention}o_proj.weight"], rank, tp),
        "mixer.out_proj.bias": model[f"{attention}o_proj.bias"],
        "mlp.w1.weight": rows_of(model[f"{at}mlp.gate_proj.weight"], rank, tp),
        f"mlp.{up}.weight": rows_of(model[f"{at}mlp.up_proj.weight"], rank, tp),
        f"mlp.{down}.weight": columns_of(model[f"{at}mlp.down_proj.weight"], rank, tp),
    }


def internlm2_layer(model: Model, at: str, rank: int, tp: int, how: Variant, dims: Dims) -> Model:
    q, k, v = (model[f"{at}self_attn.{p}_proj.weight"] for p in "qkv")
    if how.adapt_hf is False:
        q, k = interleaved(q, dims.head_dim), interleaved(k, dims.head_dim)
    if how.fused:
        attention = {"wqkv": rows_of(grouped(q, k, v, dims), rank, tp)}
    else:
        attention = {name: rows_of(x, rank, tp) for name, x in (("wq", q), ("wk", k), ("wv", v))}
    return {
        "attention_norm.weight": model[f"{at}input_layernorm.weight"],
        "ffn_norm.weight": model[f"{at}post_attention_layernorm.weight"],
        **{f"attention.{name}.weight": x for name, x in attention.items()},
        "attention.wo.weight": columns_of(model[f"{at}self_attn.o_proj.weight"], rank, tp),
        "feed_forward.w1.weight": rows_of(model[f"{at}mlp.gate_proj.weight"], rank, tp),
        "feed_forward.w3.weight": rows_of(model[f"{at}mlp.up_proj.weight"], rank, tp),
        "feed_forward.w2.weight": columns_of(model[f"{at}mlp.down_proj.weight"], rank, tp),
    }


def cell(
    model: Model, dims: Dims, rank: int, tp: int, stages: tuple[int, ...], stage: int, how: Variant
) -> Model:
    """The state dict of one rank of one stage."""
    out: Model = {}
    if stage == 0:
        cut = columns_of if how.embed_split_hidden else rows_of
        out[how.embedding(dims)] = cut(model["model.embed_tokens.weight"], rank, tp)
    for local in range(stages[stage]):
        at = f"model.layers.{sum(stages[:stage]) + local}."
        if dims.family == "internlm":
            layer, prefix = internlm_layer(model, at, rank, tp, how), f"blocks.{local}."
        else:
            layer, prefix = internlm2_layer(model, at, rank, tp, how, dims), f"layers.{local}."
        out |= {prefix + key: value for key, value in layer.items()}
    if stage == len(stages) - 1:
        out["norm.weight"] = model["model.norm.weight"]
        head = "head.weight" if dims.family == "internlm" else "output.weight"
        out[head] = rows_of(model["lm_head.weight"], rank, tp)
    return {how.prefix + key: value for key, value in out.items()}


def cells(
    model: Model, dims: Dims, tp: int = 1, stages: tuple[int, ...] = (), how: Variant = PLAIN
) -> dict[Cell, Model]:
    """(tensor-parallel rank, stage) -> state dict."""
    stages = stages or (dims.layers,)
    assert sum(stages) == dims.layers
    return {(t, p): cell(model, dims, t, tp, stages, p, how) for t in range(tp) for p in range(len(stages))}


def model_config(dims: Dims, how: Variant = PLAIN) -> dict[str, Any]:
    """What a training job saves beside the weights (and max_position_embeddings, which it does not)."""
    config = {
        "checkpoint": False,
        "num_attention_heads": dims.heads,
        "embed_split_hidden": how.embed_split_hidden,
        "vocab_size": dims.vocab,
        "embed_grad_scale": 1,
        "parallel_output": True,
        "hidden_size": dims.hidden,
        "num_layers": dims.layers,
        "mlp_ratio": dims.inter / dims.hidden,
        "dtype": getattr(torch, dims.dtype),
        "norm_type": "rmsnorm",
        "layer_norm_epsilon": dims.eps,
        "rope_base": dims.rope_base,
        "max_position_embeddings": dims.positions,
        "use_dynamic_ntk_rope": False,
        "use_flash_attn": True,
        "num_chunks": 1,
        "no_bias": not dims.biased,
    }
    if dims.family == "internlm":
        return config | {"model_type": "INTERNLM"}
    config |= {"num_kv_attention_heads": dims.kv_heads, "norm_head": how.norm_head}
    config |= {} if how.adapt_hf is None else {"adapt_hf": how.adapt_hf}
    return config | {"model_type": "INTERNLM2_PUBLIC"}


def write_original(
    folder: Path,
    model: Model,
    dims: Dims,
    tp: int = 1,
    stages: tuple[int, ...] = (),
    how: Variant = PLAIN,
    **config: Any,
) -> Path:
    """An original checkpoint. config: keys of model_config.pt to change, or to leave out with None."""
    folder.mkdir(parents=True)
    settings = {k: v for k, v in (model_config(dims, how) | config).items() if v is not None}
    torch.save(settings, folder / "model_config.pt")
    for (t, p), state in cells(model, dims, tp, stages, how).items():
        tensors = stored(state, dims.dtype, how.storage)
        if how.inv_freq:
            layer = "blocks.{}.mixer" if dims.family == "internlm" else "layers.{}.attention"
            count = (stages or (dims.layers,))[p]
            for n in range(count):
                tensors[f"{how.prefix}{layer.format(n)}.rotary_emb.inv_freq"] = torch.ones(dims.head_dim // 2)
        torch.save(tensors, folder / f"model_tp{t}_pp{p}.pt")
    return folder


def read_cells(folder: Path) -> dict[Cell, Model]:
    """Every model_tp*_pp*.pt as torch sees it."""
    out = {}
    for path in folder.glob("model_tp*.pt"):
        t, p = (int(part[2:]) for part in path.stem.split("_")[1:])
        state = torch.load(path, weights_only=True)
        out[t, p] = {name: to_bits(tensor) for name, tensor in state.items()}
    return out


def read_config(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "model_config.pt", weights_only=True)


def variant_of(folder: Path, dims: Dims) -> Variant:
    """The spelling a written checkpoint chose, where the format leaves a choice."""
    config, first = read_config(folder), read_cells(folder)[0, 0]
    w2 = first.get("blocks.0.mlp.w2.weight")
    gate = first.get("blocks.0.mlp.w1.weight")
    return Variant(
        embed_split_hidden=config["embed_split_hidden"],
        embedding_key=next(key for key in EMBEDDING_KEYS[dims.family] if key in first),
        w2_is_up=w2 is None or w2.shape == gate.shape,  # not asked where the other has that shape too
        adapt_hf=config.get("adapt_hf"),
        fused=dims.family == "internlm" or "layers.0.attention.wqkv.weight" in first,
    )
