"""What a loaded model writes after a prompt, told piece by piece while it is written, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

from converters.config.rope import border_of
from internlm_zoo.errors import UnsupportedError
from internlm_zoo.fitting.network import contexts
from internlm_zoo.loading.directory import ModelDirectory
from internlm_zoo.loading.generate import (
    encode,
    encode_turns,
    greedy,
    require_writing,
    stop_ids,
    tokenizer_of,
)
from internlm_zoo.loading.load import Loaded, LoadPlan
from internlm_zoo.loading.ranks import of_first

if TYPE_CHECKING:
    from internlm_zoo.loading.sandbox.tokenizer import ConfinedTokenizer

_BEFORE = 6  # tokens of the prompt that are decoded along: a tokenizer drops the blank before the first word
_PART = "\ufffd"  # what is decoded of a character whose other bytes are in the next token


@dataclass(frozen=True)
class Answer:
    """prompt_tokens, tokens: read and written. first: seconds until the first of them, in which the prompt
    was read. seconds: all of it."""

    text: str
    prompt_tokens: int
    tokens: int
    first: float
    seconds: float

    @property
    def rate(self) -> float | None:
        """Tokens a second after the first; None where there are no more."""
        return (self.tokens - 1) / (self.seconds - self.first) if self.tokens > 1 else None


def generate(loaded: Loaded, prompt: str, *, max_new_tokens: int = 64, raw: bool = False) -> str:
    """The text of `answer`."""
    return answer(loaded, prompt, max_new_tokens=max_new_tokens, raw=raw).text


def answer(
    loaded: Loaded,
    prompt: str,
    *,
    max_new_tokens: int = 64,
    raw: bool = False,
    tell: Callable[[str], None] = lambda piece: None,
    warn: Callable[[str], None] = lambda note: None,
) -> Answer:
    """The text that follows `prompt`; for a chat model its answer, the prompt being a user's turn unless raw.

    tell: gets each piece of it, whole characters. warn: gets a sentence if the text may go beyond the length
    that the model was trained on. Raises NotFoundError without a tokenizer, UnsupportedError for a model that
    scores instead of writing, and for a prompt that is longer than the model serves.
    """
    directory = loaded.plan.directory
    require_writing(directory)
    ids = of_first(loaded.plan.ranks, lambda: _asked(loaded, prompt, raw=raw))
    check_length(loaded.plan, len(ids), max_new_tokens, warn)
    return written_after(loaded, ids, max_new_tokens, tell)


def written_after(
    loaded: Loaded,
    ids: Sequence[int],
    limit: int,
    tell: Callable[[str], None],
    cancel: Event | None = None,
) -> Answer:
    """At most `limit` tokens after `ids`, told as they come; once `cancel` is set, what there is by then."""
    border = _border(loaded.plan.directory)
    if border is not None and len(ids) <= border:
        limit = min(limit, border - len(ids) + 1)  # the last is not read any more
    start = time.perf_counter()
    text, pieces, moments = _Decoder(tokenizer_of(loaded), ids), list[str](), list[float]()
    # Another machine may have another tokenizer and config, and all ranks have to end together.
    stop = of_first(loaded.plan.ranks, lambda: stop_ids(loaded))
    for token in greedy(loaded, ids, limit, stop=stop):
        moments.append(time.perf_counter() - start)
        pieces.append(text.after(token))
        tell(pieces[-1])
        if cancel and cancel.is_set():
            break
    pieces.append(text.rest())
    tell(pieces[-1])
    first = moments[0] if moments else 0.0
    return Answer("".join(pieces), len(ids), len(moments), first, time.perf_counter() - start)


def _asked(loaded: Loaded, prompt: str, *, raw: bool) -> list[int]:
    turn = loaded.plan.directory.takes_turns and not raw
    return encode_turns(loaded, [{"role": "user", "content": prompt}]) if turn else encode(loaded, prompt)


def check_length(
    plan: LoadPlan,
    prompt: int,
    more: int,
    warn: Callable[[str], None],
    fix: str = "shorten it, or take a model with a longer context",
) -> None:
    """Positions that a model never saw in training give noise; scaling of the rotary embedding, where its
    config asks for that, keeps a longer text readable, and worse than a short one. Raises
    UnsupportedError for a prompt that is longer than the model serves."""
    directory = plan.directory
    trained, reach = contexts(directory.model, directory.checkpoint.facts)
    if reach is not None and prompt > reach:
        what = (
            f"the prompt has {prompt:,} tokens, and the model serves {reach:,}: what followed would be noise"
        )
        raise UnsupportedError(what, directory.title, fix)
    if trained is not None and prompt + more > trained:
        warn(f"prompt and answer may have {prompt + more:,} tokens; the model was trained on {trained:,}")
    elif trained is not None and prompt + more > plan.context:
        room = f"memory was kept for {plan.context:,}, and `context` keeps it for more"
        warn(f"prompt and answer may have {prompt + more:,} tokens; {room}")
    border = _border(directory)
    if border is not None and prompt <= border < prompt + more:
        what = f"the answer ends where {border:,} tokens were read"
        warn(f"{what}: beyond them longrope turns keys otherwise, and those of before are kept as they are")


def _border(directory: ModelDirectory) -> int | None:
    facts = {name: fact.value for name, fact in directory.checkpoint.facts.items()}
    return border_of(facts.get("rope_scaling"), facts.get("max_position_embeddings") or 0)


class _Decoder:
    """Text of tokens that come one by one: each is decoded with few before it, and what is not yet a whole
    character waits for the next."""

    def __init__(self, tokenizer: ConfinedTokenizer, before: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(before[-_BEFORE:])
        self._told = len(self._ids)

    def after(self, token: int) -> str:
        """What the token adds."""
        self._ids.append(token)
        return self._piece(whole=True)

    def rest(self) -> str:
        """What waits still, in the end."""
        return self._piece(whole=False)

    def _piece(self, *, whole: bool) -> str:
        known = self._tokenizer.decode(self._ids[: self._told])
        text = self._tokenizer.decode(self._ids)
        if whole and text.endswith(_PART):
            return ""
        self._ids = self._ids[max(0, self._told - _BEFORE) :]
        self._told = len(self._ids)
        return text[len(known) :]
