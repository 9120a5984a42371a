"""Checkpoints of other kinds of models: named by their config, or by one tensor, before anything of them is
called damaged.

Names of methods: `quant_method` in transformers' quantization_config; of tensors: what AutoAWQ, AutoGPTQ,
bitsandbytes, compressed-tensors, peft, TRL and the modeling files of InternLM-XComposer2 and InternVL save.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from converters.containers.container import FolderContents
from converters.containers.files import read_json
from converters.containers.foreign import MERGE, ForeignFile
from converters.errors import UnsupportedError
from converters.formats.tensors import StoredTensor
from converters.values import shown

_QUANTISED = "take the release in 16 bits that they were made from; none of their values is the model's own"
_ONLY_TEXT = "only models of text alone are read; save the language model alone, where the model's code can"

QUANT_FILES = {
    "quant_config.json": "AWQ",
    "quantize_config.json": "GPTQ",
    "hf_quant_config.json": "NVIDIA ModelOpt",
}
"""Where else than in config.json it stands, and what writes it."""

METHODS = {
    "awq": "AWQ",
    "gptq": "GPTQ",
    "fp8": "FP8",
    "fbgemm_fp8": "FBGEMM FP8",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "modelopt": "NVIDIA ModelOpt",
    "hqq": "HQQ",
    "aqlm": "AQLM",
    "mxfp4": "MXFP4",
}
_PACKED = re.compile(
    r".*\.(qweight|qzeros|scales|g_idx|SCB|absmax|quant_map|quant_state\..+|weight_scale(_inv)?|weight_packed"
    r"|weight_zero_point|input_scale|codebooks)"
)
# Several weights in one number, or a scale away from it.
_PACKED_TYPES = frozenset({"I32", "U32", "I8", "U8", "F8_E4M3", "F8_E5M2"})


ARCHITECTURES = (
    ForeignFile(r"(?i).*xcomposer.*", "a model of text and images (InternLM-XComposer)", _ONLY_TEXT),
    ForeignFile(
        r"(?i).*(internvl|vision|llava|vlm?for|omni|audio|image|multimodal|conditional).*",
        "a model of more than text",
        _ONLY_TEXT,
    ),
    ForeignFile(r"(?i).*(moe|mixtral).*", "a mixture of experts", "only models without experts are read"),
    ForeignFile(
        r".*For(TokenClassification|QuestionAnswering|MaskedLM)",
        "a model with another head",
        "language models and reward models are read",
    ),
)

TENSORS = (
    ForeignFile(r".*\.Plora_[AB]\..+", "of a model of text and images (XComposer2)", _ONLY_TEXT),
    ForeignFile(
        r"(.*\.)?(vit|vision_model|vision_tower|vision_proj|visual|mlp1|multi_modal_projector)\..+",
        "of a model of more than text",
        _ONLY_TEXT,
    ),
    ForeignFile(
        r".*(block_sparse_moe|\.experts)\..+",
        "of a mixture of experts",
        "only models without experts are read",
    ),
    ForeignFile(r".*(\.lora_[AB]\b|\.lora_embedding_[AB]\b).*", "of a LoRA adapter", MERGE),
    ForeignFile(
        r"(.*\.)?v_head\.(summary\..+|bias)",
        "of a value head that TRL or another trainer put beside the model",
        "save the model without it (with TRL: model.pretrained_model.save_pretrained), and convert that",
    ),
)

_SCORE = re.compile(r"(.*\.)?(v_head|score)\.weight")


def refuse_foreign(found: FolderContents) -> None:
    """Raises UnsupportedError for a model that no layout can hold, whatever else is wrong with it."""
    where = found.folder.where(found.config_file)
    tensors = list(found.tensors)
    if found.container.says_layout:
        _check_architectures(found.config, where)
        _check_quantised(found, tensors)
    for kind in TENSORS:
        for tensor in tensors:
            if re.fullmatch(kind.pattern, tensor.name):
                raise UnsupportedError(
                    f"{tensor.name} is {kind.what}, which is not supported", tensor.file, kind.fix
                )
    for tensor in tensors:
        if _SCORE.fullmatch(tensor.name) and tensor.shape and tensor.shape[0] != 1:
            what = f"{tensor.name} has {tensor.shape[0]} rows: a head of several labels is not supported"
            fix = "reward models, whose head has one row, and language models are read"
            raise UnsupportedError(what, tensor.file, fix)


def _check_architectures(config: Mapping[str, Any], where: str) -> None:
    named = config.get("architectures")
    names = [("architectures", name) for name in (named if isinstance(named, list) else ())]
    for field, name in (*names, ("model_type", config.get("model_type"))):
        for kind in ARCHITECTURES:
            if isinstance(name, str) and re.fullmatch(kind.pattern, name):
                raise UnsupportedError(
                    f"{field} is {shown(name)}, {kind.what}, which is not supported", where, kind.fix
                )


def _check_quantised(found: FolderContents, tensors: list[StoredTensor]) -> None:
    """A config may say how to quantise when loading: what counts is that the tensors are."""
    method, field = _method(found)
    types = _PACKED_TYPES if method else ()
    packed = next((one for one in tensors if _PACKED.fullmatch(one.name) or one.dtype in types), None)
    if packed is None:
        return
    what = f"its weights are quantised{method}: {packed.name} holds {packed.dtype}"
    raise UnsupportedError(what, field or packed.file, _QUANTISED)


def _method(found: FolderContents) -> tuple[str, str | None]:
    """How, and which file says so."""
    stated = found.config.get("quantization_config") or found.config.get("compression_config")
    if isinstance(stated, dict):
        method = stated.get("quant_method", "an unnamed method")
        name = method if isinstance(method, str) and len(method) < 80 else shown(method)
        where = found.folder.where(found.config_file)
        return f" by {METHODS.get(name, name)} (quantization_config{_bits(stated)})", where
    for name, method in QUANT_FILES.items():
        if name in found.folder.names():
            return f" by {method} ({name}{_bits(read_json(found.folder, name))})", found.folder.where(name)
    return "", None


def _bits(stated: Mapping[str, Any]) -> str:
    bits = stated.get("bits", stated.get("w_bit"))
    return f", {bits} bits" if type(bits) is int and 0 < bits < 64 else ""
