"""Strings of every kind a tokenizer meets, the same on every run."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

CHINESE = (
    "书生·浦语是上海人工智能实验室与商汤科技联合香港中文大学和复旦大学发布的新一代大语言模型。"
    "面向实用场景，支持长达二十万字的输入；在推理、数学、代码方面的能力全面提升！？“开源”、（免费商用）。"
    "天下大势，分久必合，合久必分。臺灣繁體字與简体字混排，龘靐齉爩 𠮷𡈽。"
)
ENGLISH = (
    "It's the best of times; it was the worst of times, don't you think? She'd said 1,234.56 dollars (about "
    "£3.50) on 2023-09-20 at 10:30 AM. E-mail: someone@example.com, see https://example.com/a?b=c&d=%20#top. "
    "THE QUICK Brown fox jumps over the lazy dog. Café, naïve, Ångström, coöperate, Straße, İstanbul."
)
CODE = (
    "def f(x: int, *args, **kwargs) -> dict[str, Any]:\n    return {k: v for k, v in kwargs.items() if x}\n"
    '\n\nclass A(B, metaclass=C):\n    """Doc."""\n\n        pass\n'
    "for (int i = 0; i < n; ++i) {\n\tsum += a[i] << 2; // add\n\t\tif (!ok) { return -1; }\n}\r\n"
    "SELECT * FROM t WHERE a >= 10 AND b LIKE '%x_y%';\n#include <stdio.h>\n<div class=\"a-b\">&nbsp;</div>\n"
    "================\n----------------\n/**********/ ........ ,,,, ____ 00000000 \\n \\t \\u4e2d $x;\n"
)
OTHER = "日本語のテキスト、ひらがなとカタカナ。 한국어 문장입니다. Привет, мир! مرحبا שלום नमस्ते Γειά "
EMOJI = [
    "😀",
    "👍🏽",
    "👨‍👩‍👧‍👦",
    "🇨🇳",
    "❤️",
    "☕",
    "🏳️‍🌈",
    "1️⃣",
    "é",
    "a\u0301\u0323",
    "\u200b",
    "\ufeff",
    "\ufffd",
    "\u2581",
]
BLANKS = [" ", "  ", "\t", "\n", "\r\n", "\u3000", "\xa0", "\u2028", "\v", "\f", "▁"]
RUNS = [*BLANKS, "a", "-", "=", ".", "0", "#", "*", "/", "哈", "ha", "\0"]


def make_texts(count: int, tokens: Sequence[str], pieces: Sequence[str], seed: int) -> list[str]:
    """`count` strings in equal shares of every kind; tokens: to be written in them; pieces: to be joined."""
    rng = random.Random(seed)
    kinds = _kinds(rng, tokens, pieces)
    return [kinds[at % len(kinds)]() for at in range(count)]


def _kinds(rng: random.Random, tokens: Sequence[str], pieces: Sequence[str]) -> list[Callable[[], str]]:
    def cut(text: str) -> str:
        start = rng.randrange(len(text))
        return text[start : start + rng.randint(1, 60)]

    def runs() -> str:
        return "".join(
            rng.choice(RUNS) * rng.choice((1, 1, 2, 3, 4, 5, 7, 8, 15, 33)) for _ in range(rng.randint(1, 6))
        )

    def join(parts: Sequence[str], most: int) -> str:
        return "".join(rng.choices(parts, k=rng.randint(1, most)))

    def unicode() -> str:
        return "".join(chr(_scalar(rng)) for _ in range(rng.randint(1, 20)))

    def mixed() -> str:
        kinds = (chinese, english, code, emoji, runs, written, ascii_)
        return "".join(rng.choice(kinds)() for _ in range(rng.randint(2, 4)))

    def written() -> str:
        return "".join(
            rng.choice(tokens) + rng.choice(("", " ", "\n", "user\n", "好", "<s", "|>"))
            for _ in range(rng.randint(1, 4))
        )

    def chinese() -> str:
        return cut(CHINESE)

    def english() -> str:
        return cut(ENGLISH)

    def code() -> str:
        return cut(CODE)

    def emoji() -> str:
        return join(EMOJI, 8)

    def ascii_() -> str:
        return "".join(chr(rng.randrange(128)) for _ in range(rng.randint(0, 30)))

    def few() -> str:
        return join(rng.sample(pieces, 2), 16)

    return [
        chinese, english, code, emoji, runs, unicode, mixed, written, ascii_, few,
        lambda: cut(OTHER), lambda: join(pieces, 8), lambda: join(BLANKS, 12),
    ]  # fmt: skip


def _scalar(rng: random.Random) -> int:
    """Any code point but a surrogate, half of them from the plane of common scripts."""
    point = rng.randrange(0xD800 if rng.random() < 0.5 else 0x110000 - 0x800)
    return point if point < 0xD800 else point + 0x800
