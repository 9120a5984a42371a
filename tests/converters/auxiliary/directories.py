"""Small checkpoints with a real tokenizer beside them, and what stock transformers makes of a directory."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.converters.oracle import INTERNLM2, make_model, write_hf
from tests.converters.tokenizer.models import MODELS, Released

CHAT = MODELS["demo-internlm2"]
PIECES = 2048
VENDOR = {
    "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
    "tokenizer_class": "InternLM2Tokenizer",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "</s>",
    "clean_up_tokenization_spaces": False,
}


def token(text: str, special: bool = True, **sides: bool) -> dict[str, Any]:
    """As transformers saves one in added_tokens_decoder."""
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {"content": text, **plain, **sides, "special": special}


def vendor(folder: Path, rows: int = PIECES, model: Released = CHAT, **settings: Any) -> Path:
    """An internlm2 checkpoint as its hub has it: tokenizer.model, and a config that names code."""
    dims = replace(INTERNLM2, vocab=rows, layers=1)
    write_hf(folder, make_model(dims), dims)
    shutil.copy(model.path, folder / "tokenizer.model")
    write_json(folder / "tokenizer_config.json", {**VENDOR, **settings})
    return folder


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def change(path: Path, **keys: Any) -> None:
    write_json(path, {**read_json(path), **keys})


def stock(folder: Path) -> Any:
    """The tokenizer as anyone loads it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
