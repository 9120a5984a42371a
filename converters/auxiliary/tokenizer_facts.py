"""What someone else knows of a tokenizer that its files do not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TokenizerFacts:
    """special_tokens: the text of each chat token -> its id, or the piece that stands for it in a
    sentencepiece model. stop_tokens: texts of the tokens that end what the model writes, eos first."""

    special_tokens: Mapping[str, int | str] = field(default_factory=dict)
    chat_template: str | None = None
    stop_tokens: tuple[str, ...] = ()
