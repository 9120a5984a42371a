"""What every file must hold, said slowly: random models, and the checkpoints of them in each format.

Shares no code with `converters`. A model is a dict of the stock Llama tensors (q, k and v apart, rotary
halves as Hugging Face has them) as bit patterns, so comparing is comparing bytes; `cells` cuts it into the
state dicts that InternEvo's ranks would save and `hf_tensors` names it as the released repositories do.
Facts: InternEvo's convert2hf_internlm*.py, modeling_internlm*.py, checkpoint/components.py and
core/scheduler's partition_uniform; torch writes and reads the files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.converters.bits import columns_of, rows_of, stored, to_bits, to_torch

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


# --- the original format ------------------------------------------------------------------------------------


def stages_of(layers: int, pp: int) -> tuple[int, ...]:
    """How InternEvo's partition_uniform shares layers among stages: the last ones take what is left over."""
    least, more = divmod(layers, pp)
    return tuple(least + (p >= pp - more) for p in range(pp))


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


# --- Hugging Face -------------------------------------------------------------------------------------------

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
