"""What the registry knows of a tokenizer, in the words of the conversion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from converters import TokenizerFacts
from internlm_zoo.registry.schema import SpecialToken


def tokenizer_facts(
    chat_template: str | None, tokens: Mapping[str, SpecialToken], stops: Sequence[SpecialToken] = ()
) -> TokenizerFacts:
    """What a sentencepiece model does not say of itself: chat tokens by their text, the template, and which
    tokens end a text."""
    return TokenizerFacts(
        {token.token: token.piece or token.token for token in tokens.values() if token.token is not None},
        chat_template,
        tuple(token.token for token in stops if token.token is not None),
    )
