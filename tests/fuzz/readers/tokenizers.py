"""Files of tokenizers and chat templates, which run in a process of theirs, and models to be rewritten."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import converters
from converters.auxiliary.files import SENTENCEPIECE, TokenizerFiles
from converters.auxiliary.rewrite import for_transformers
from converters.auxiliary.tokens import TokenizerFacts
from converters.tokenizer.synthetic import synthetic_tokenizer
from internlm_zoo.loading.sandbox import limits
from internlm_zoo.loading.sandbox.tokenizer import ConfinedTokenizer
from tests.fuzz.contract import Reader
from tests.fuzz.readers.memory import TOKENIZER, MemoryFolder, checkpoint

FAST, SETTINGS, GENERATION = "tokenizer.json", "tokenizer_config.json", "generation_config.json"
STOPS = b'{"eos_token_id": [2, 5], "pad_token_id": 2, "bos_token_id": 1, "temperature": 0.8}'
TEXT = "Hello, a text\n中文 <|im_start|>"
TURNS = [{"role": "user", "content": TEXT}, {"role": "assistant", "content": ""}]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('only first') }}{% endif %}<|{{ m['role'] }}|>\n{{ m.content|trim }}\n{% endfor %}"
    "{% set n = namespace(a=1) %}{% if add_generation_prompt %}{{ '<|assistant|>' * n.a }}{% endif %}"
)


@cache
def _files() -> dict[str, bytes]:
    return synthetic_tokenizer(300, {"<|im_start|>": 299}, chat_template=TEMPLATE)


@contextmanager
def _impatient() -> Iterator[None]:
    before, limits.LIMITS = limits.LIMITS, replace(limits.LIMITS, seconds=1, opening=2, memory=1 << 29)
    try:
        yield
    finally:
        limits.LIMITS = before


def _read(name: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        tokenizer = ConfinedTokenizer({**_files(), name: data}, "memory", SETTINGS, TEMPLATE)
        with _impatient():
            return tokenizer.decode(tokenizer.encode(TEXT)), tokenizer.render(TURNS, answer=True)

    return read


def _converted(to: str, name: str) -> Callable[[bytes], object]:
    """Beside a sentencepiece model, but for the file that stands in its place."""

    def read(data: bytes) -> object:
        beside = {"tokenizer.model": TOKENIZER.read_bytes(), **_files(), name: data}
        source = MemoryFolder({**checkpoint("hf"), **beside})
        with tempfile.TemporaryDirectory() as folder:
            return converters.convert(source, Path(folder) / "out", to=to, workers=1, evidence=False)

    return read


def _rendered(data: bytes) -> object:
    settings = json.dumps({"chat_template": data.decode(errors="replace")}).encode()
    return _read(SETTINGS)(settings)


def _rewritten(data: bytes) -> object:
    return for_transformers(TokenizerFiles("memory", {SENTENCEPIECE: data}), TokenizerFacts())


READERS = {
    "tokenizer-json": Reader(_read(FAST), lambda: [_files()[FAST]], is_json=True),
    "tokenizer-settings": Reader(_read(SETTINGS), lambda: [_files()[SETTINGS]], is_json=True),
    "chat-template": Reader(_rendered, lambda: [TEMPLATE.encode()]),
    "gguf-tokenizer-json": Reader(_converted("gguf", FAST), lambda: [_files()[FAST]], is_json=True),
    "gguf-tokenizer-settings": Reader(
        _converted("gguf", SETTINGS), lambda: [_files()[SETTINGS]], is_json=True
    ),
    "gguf-generation": Reader(_converted("gguf", GENERATION), lambda: [STOPS], is_json=True),
    "llama-tokenizer-json": Reader(_converted("llama", FAST), lambda: [_files()[FAST]], is_json=True),
    "sentencepiece-rewritten": Reader(_rewritten, lambda: [TOKENIZER.read_bytes()]),
}
