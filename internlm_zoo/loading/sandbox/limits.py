"""How much a checkpoint's tokenizer and chat template may take: of time, of memory, and of our patience with
what comes out. Each is far above what any released tokenizer needs for a text of its model's context.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SandboxLimits:
    """seconds: of a processor, for one text or conversation. per_second: characters of a text that give one
    more. opening: seconds for building the tokenizer from its files, which takes one for 128,000 tokens.
    memory: bytes, beyond those that are taken before. text: characters that a template may write, and that
    tokens may stand for, beyond growth. growth: times the length of what is said in the conversation. tokens,
    per_byte: ids that a text may become, whatever its length, and for each byte of it; byte by byte it
    becomes one. per_token: characters of one token."""

    seconds: int = 10
    per_second: int = 200_000
    opening: int = 30
    memory: int = 1 << 30
    text: int = 1 << 16
    growth: int = 8
    tokens: int = 1 << 10
    per_byte: int = 16
    per_token: int = 1 << 10


LIMITS = SandboxLimits()
