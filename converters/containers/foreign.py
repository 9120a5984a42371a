"""Weights of other programs: recognised by their names, and not read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class ForeignFile:
    """What is recognised by its name, and not read. pattern: of the name of a file, of an architecture or of
    a tensor. fix: the way out."""

    pattern: str
    what: str
    fix: str


MERGE = (
    "merge it into its base with peft, PeftModel.from_pretrained(base, DIR).merge_and_unload(), save the "
    "result with save_pretrained, and convert that"
)
_FULL = "save the model's full weights with save_pretrained, and convert those"
FOREIGN = (
    ForeignFile(r"adapter_(model|config)\..+", "a LoRA adapter, which is not a whole model", MERGE),
    ForeignFile(
        r"consolidated.*\.(pth|safetensors)",
        "weights in the layout of Meta's or Mistral's own code",
        "convert them with transformers' convert_llama_weights_to_hf.py, and convert the result",
    ),
    ForeignFile(
        r"ggml-.+\.bin",
        "weights for old versions of llama.cpp, mostly quantised",
        "take the release in hf format that they were made from",
    ),
    ForeignFile(
        r"gptq_model-.+\.(safetensors|bin|pt)",
        "weights quantised by GPTQ",
        "take the release in 16 bits that they were made from",
    ),
    ForeignFile(r"(tf_model.*\.h5|flax_model.*\.msgpack)", "weights for TensorFlow or Flax", _FULL),
    ForeignFile(
        r"(zero_pp_)?(mp_|bf16_zero_pp_mp_)?rank_.+_(model|optim)_states\.pt",
        "a training state of DeepSpeed",
        "run the zero_to_fp32.py beside it, and convert what it writes",
    ),
    ForeignFile(
        r".+\.distcp",
        "a distributed checkpoint of torch",
        "run python -m torch.distributed.checkpoint.format_utils dcp_to_torch, and convert what it writes",
    ),
    ForeignFile(r"model_optim_rng\.pt", "a checkpoint of Megatron-LM", _FULL),
)


def foreign(names: Iterable[str]) -> tuple[tuple[str, ForeignFile], ...]:
    """Files of weights of other programs, each with what it is."""
    return tuple((name, kind) for name in names for kind in FOREIGN if re.fullmatch(kind.pattern, name))
