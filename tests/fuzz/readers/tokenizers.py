"""Files of tokenizers and chat templates, which run in a process of theirs, and models to be rewritten."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

from converters.tokenizer.convert import convert_tokenizer
from converters.tokenizer.synthetic import synthetic_tokenizer
from internlm_zoo.loading.confined import limits
from internlm_zoo.loading.confined.tokenizer import ConfinedTokenizer
from tests.fuzz.contract import Reader
from tests.fuzz.readers.memory import TOKENIZER

FAST, SETTINGS = "tokenizer.json", "tokenizer_config.json"
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


def _rendered(data: bytes) -> object:
    settings = json.dumps({"chat_template": data.decode(errors="replace")}).encode()
    return _read(SETTINGS)(settings)


READERS = {
    "tokenizer-json": Reader(_read(FAST), lambda: [_files()[FAST]], is_json=True),
    "tokenizer-settings": Reader(_read(SETTINGS), lambda: [_files()[SETTINGS]], is_json=True),
    "chat-template": Reader(_rendered, lambda: [TEMPLATE.encode()]),
    "sentencepiece-rewritten": Reader(convert_tokenizer, lambda: [TOKENIZER.read_bytes()]),
}
