"""What the demo models are asked, one English and one Chinese text each: beginnings for the base model,
questions for the chat model."""

from __future__ import annotations

from collections.abc import Mapping

PROMPTS: Mapping[str, tuple[str, str]] = {
    "demo-internlm-base": ("A rolling stone", "千里之行"),
    "demo-internlm2-chat": ("What colour is snow?", "守株待兔是什么意思？"),
}
