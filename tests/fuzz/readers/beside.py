"""Whole checkpoints with one file that is not what it should be: `inspect` says what is wrong, `convert`
gives a result or refuses."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import converters
from tests.fuzz.contract import Reader
from tests.fuzz.readers.memory import TOKENIZER, MemoryFolder, checkpoint

CARD = b"---\nlicense: apache-2.0\nlanguage:\n- en\n---\n# InternLM\n"
RECORD = {"format": "original", "tp": 1, "pp": 1, "source": {"files": []}}
TOKENIZER_CONFIG = {
    "tokenizer_class": "InternLM2Tokenizer",
    "add_bos_token": True,
    "bos_token": "<s>",
    "eos_token": {"content": "</s>", "lstrip": False},
    "model_max_length": 10**30,
    "added_tokens_decoder": {"92542": {"content": "<|im_end|>", "special": True}},
    "chat_template": "{{ messages[0]['content'] }}",
}
DOCUMENTS = {
    "config.json": None,
    "generation_config.json": {"eos_token_id": [2, 92542], "pad_token_id": 2, "temperature": 0.8},
    "tokenizer_config.json": TOKENIZER_CONFIG,
    "special_tokens_map.json": {"bos_token": "<s>", "additional_special_tokens": ["<|im_start|>"]},
    "added_tokens.json": {"<|im_end|>": 92542},
    "conversion.json": RECORD,
}


def _converted(kind: str, name: str) -> Callable[[bytes], object]:
    """To the other format, with everything that lies beside the weights."""

    def read(data: bytes) -> object:
        source = MemoryFolder({**checkpoint(kind), "tokenizer.model": _pieces(), name: data})
        to = "hf" if kind == "original" else "original"
        with tempfile.TemporaryDirectory() as folder:
            return converters.convert(source, Path(folder) / "out", to=to, workers=1, evidence=False)

    return read


def _inspected(kind: str, name: str) -> Callable[[bytes], object]:
    return lambda data: converters.inspect(MemoryFolder({**checkpoint(kind), name: data}))


def _pieces() -> bytes:
    return TOKENIZER.read_bytes()


def _honest(kind: str, name: str) -> Iterator[bytes]:
    stated = DOCUMENTS[name]
    yield checkpoint(kind)[name] if stated is None else json.dumps(stated).encode()


def _documents() -> Iterator[tuple[str, Reader]]:
    for name in DOCUMENTS:
        stem = name.partition(".")[0].replace("_", "-")

        def honest(name: str = name) -> Iterator[bytes]:
            return _honest("hf", name)

        yield f"inspect-{stem}", Reader(_inspected("hf", name), honest, is_json=True)
        yield f"convert-{stem}", Reader(_converted("hf", name), honest, is_json=True)


READERS = {
    **dict(_documents()),
    "inspect-model-config": Reader(
        _inspected("original", "model_config.pt"), lambda: (checkpoint("original")["model_config.pt"],)
    ),
    "convert-model-config": Reader(
        _converted("original", "model_config.pt"), lambda: (checkpoint("original")["model_config.pt"],)
    ),
    "convert-card": Reader(_converted("hf", "README.md"), lambda: (CARD,)),
}
