"""The score that a reward model gives to a conversation, asked for as the released models' own code does.

Facts: get_score in modeling_internlm2.py of internlm/internlm2-7b-reward: the conversation in its chat
template, without the beginning of another answer, then the reward token unless it is there; what counts is
the value at the last token.
"""

from __future__ import annotations

from collections.abc import Sequence

from internlm_zoo.errors import UnsupportedError, UsageError
from internlm_zoo.loading.directory import ModelDirectory
from internlm_zoo.loading.generate import Message, encode, encode_turns, last_logits, token_id
from internlm_zoo.loading.load import Loaded
from internlm_zoo.loading.ranks import of_first

FACT = "reward_token_id"
# What the tokenizers of the released models call it.
_TOKENS = ("<|reward|>", "[UNUSED_TOKEN_130]")


def score(loaded: Loaded, conversation: Sequence[Message] | str) -> float:
    """Of a conversation, or of a text as it is, without the chat template.

    Raises UnsupportedError for a model that writes instead of scoring, UsageError if the token whose score
    counts is not known, and what encoding raises.
    """
    require_scoring(loaded.plan.directory)
    ids = of_first(loaded.plan.ranks, lambda: _asked(loaded, conversation))
    return float(last_logits(loaded, ids)[0])


def _asked(loaded: Loaded, conversation: Sequence[Message] | str) -> list[int]:
    if isinstance(conversation, str):
        ids = encode(loaded, conversation)
    else:
        ids = encode_turns(loaded, conversation, answer=False)
    token = reward_token(loaded)
    return ids if ids[-1:] == [token] else [*ids, token]


def require_scoring(directory: ModelDirectory) -> None:
    if not directory.scores:
        raise UnsupportedError(
            "it is no reward model: it writes text, and has no score to give", directory.title, "generate"
        )


def reward_token(loaded: Loaded) -> int:
    """The id of the token whose score counts, as the checkpoint, the registry or the tokenizer has it."""
    checkpoint = loaded.plan.directory.checkpoint
    rows, stated = checkpoint.sizes["vocab"], checkpoint.facts.get(FACT)
    ids = [token_id(loaded, name) for name in _TOKENS] if stated is None else [stated.value]
    token = next((id for id in ids if id is not None), None)
    if type(token) is not int or not 0 <= token < rows:
        found = "is not known" if token is None else f"is {token!r}, and the vocabulary has {rows}"
        raise UsageError(
            f"the token whose score counts {found}",
            checkpoint.path,
            f"`known_as=MODEL`, or `given={{{FACT!r}: ID}}`",
        )
    return token
