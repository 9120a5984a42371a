"""Hugging Face directories: as the released repositories name things, or as stock Llama does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.converters.bits import stored, to_bits, to_torch
from tests.converters.oracle.models import (
    Dims,
    Model,
    grouped,
)

INTERNLM2_NAMES = {
    "model.embed_tokens.weight": "model.tok_embeddings.weight",
    "model.norm.weight": "model.norm.weight",
    "lm_head.weight": "output.weight",
}
INTERNLM2_LAYER_NAMES = {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}


def hf_tensors(model: Model, dims: Dims) -> Model:
    """As the family's released repositories name them: internlm's are Llama's, internlm2 packs qkv."""
    if dims.family == "internlm":
        return dict(model)
    out = {theirs: model[name] for name, theirs in INTERNLM2_NAMES.items()}
    for n in range(dims.layers):
        at = f"model.layers.{n}."
        for name, theirs in INTERNLM2_LAYER_NAMES.items():
            out[f"{at}{theirs}.weight"] = model[f"{at}{name}.weight"]
        q, k, v = (model[f"{at}self_attn.{p}_proj.weight"] for p in "qkv")
        out[f"{at}attention.wqkv.weight"] = grouped(q, k, v, dims)
    return out


def hf_config(dims: Dims, names: str = "hf") -> dict[str, Any]:
    """config.json of a released repository (names "hf") or of stock Llama (names "llama")."""
    config = {
        "hidden_act": "silu",
        "hidden_size": dims.hidden,
        "intermediate_size": dims.inter,
        "max_position_embeddings": dims.positions,
        "num_attention_heads": dims.heads,
        "num_hidden_layers": dims.layers,
        "rms_norm_eps": dims.eps,
        "rope_theta": dims.rope_base,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "torch_dtype": dims.dtype,
        "vocab_size": dims.vocab,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    if names == "llama":
        own = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": dims.biased}
        return config | own | {"num_key_value_heads": dims.kv_heads, "mlp_bias": False}
    if dims.family == "internlm":
        return config | {"architectures": ["InternLMForCausalLM"], "model_type": "internlm", "bias": True}
    own = {"architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "bias": False}
    return config | own | {"num_key_value_heads": dims.kv_heads}


def expected(model: Model, dims: Dims, names: str) -> Model:
    return hf_tensors(model, dims) if names == "hf" else dict(model)


def write_hf(
    folder: Path,
    model: Model,
    dims: Dims,
    names: str = "hf",
    container: str = "safetensors",
    files: int = 1,
    **config: Any,
) -> Path:
    """A Hugging Face directory, as one file or as several with an index. container: safetensors | bin."""
    folder.mkdir(parents=True)
    settings = {k: v for k, v in (hf_config(dims, names) | config).items() if v is not ...}
    (folder / "config.json").write_text(json.dumps(settings))
    tensors = stored(expected(model, dims, names), dims.dtype, "own")
    base, suffix = ("model", ".safetensors") if container == "safetensors" else ("pytorch_model", ".bin")
    weight_map: dict[str, str] = {}
    for n in range(files):
        name = f"{base}{suffix}" if files == 1 else f"{base}-{n + 1:05d}-of-{files:05d}{suffix}"
        part = {key: tensors[key] for key in list(tensors)[n::files]}
        weight_map |= dict.fromkeys(part, name)
        if container == "safetensors":
            save_file(part, folder / name, metadata={"format": "pt"})
        else:
            torch.save(part, folder / name)
    if files > 1:
        index = {"metadata": {"total_size": sum(a.nbytes for a in model.values())}, "weight_map": weight_map}
        (folder / f"{base}{suffix}.index.json").write_text(json.dumps(index))
    return folder


def write_tied(
    folder: Path, model: Model, dims: Dims, names: str = "hf", head: np.ndarray | None = None, **config: Any
) -> Path:
    """One whose config ties the head to the embedding, and stores none but what is asked for."""
    write_hf(folder, model, dims, names, **({"tie_word_embeddings": True} | config))
    tensors = stored(expected(model, dims, names), dims.dtype, "own")
    name = "output.weight" if "output.weight" in tensors else "lm_head.weight"
    del tensors[name]
    if head is not None:
        tensors[name] = to_torch(head, dims.dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def read_hf(folder: Path) -> Model:
    """Every tensor of every safetensors file; a name in two files is an error."""
    out: Model = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                assert name not in out
                out[name] = to_bits(file.get_tensor(name))
    return out
