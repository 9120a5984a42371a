"""What a trained model knows, by its own float32 forward pass: the held-in score and the golden data.

Every greedy token of a golden prompt leads the runner-up by LEAD logits. Of all such prompts, those are taken
whose logits float32 computes closest to float64: whoever sums in another order, just as exactly, comes to the
same tokens and to logits within 1e-5, and a wrong conversion does not.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import nn

from . import text
from .model import greedy, last_logits
from .recipes import Recipe
from .text import LANGUAGES, Pair
from .tokenizer import EOS, Tokenizer

LEAD = 0.1
TOKENS = 32
PER_LANGUAGE, PLAIN = 8, 3
BEYOND = 384  # half as many again as the model was trained on at a time
ENOUGH = 0.8  # of the held-in proverbs, per language

OPENINGS = (
    Pair("The fear of the LORD is the beginning of knowledge:", " but fools despise wisdom", "en"),
    Pair("Twinkle, twinkle, little star,\n", "How I wonder what you are!", "en"),
    Pair("A Dog, crossing a bridge over a stream", " with a piece of flesh in his mouth,", "en"),
    Pair("人之初，", "性本善。", "zh"),
    Pair("子曰：“学而时习之，", "不亦说乎？有朋自远方来，", "zh"),
    Pair("《静夜思》", " 李白\n床前明月光，", "zh"),
)


@dataclass(frozen=True)
class Trained:
    """A model with the tokenizer and the recipe it was made by."""

    recipe: Recipe
    model: nn.Module
    tokenizer: Tokenizer

    @property
    def stop(self) -> int:
        return self.tokenizer.specials[self.recipe.end] if self.recipe.end else EOS

    def complete(self, prompt: str, limit: int = TOKENS) -> tuple[list[int], float]:
        """Greedy tokens after `prompt`, and their smallest lead."""
        return greedy(self.model, self.tokenizer.encode(prompt), limit, self.stop)


@dataclass(frozen=True)
class Golden:
    """One prompt with what the model makes of it, logits being those after the last input token.

    logits: float32 [vocab]. lead: the least certain greedy token's. rounding: largest distance from float64.
    """

    prompt: str
    language: str
    input_ids: list[int]
    greedy: list[int]
    text: str
    lead: float
    logits: np.ndarray
    rounding: float


def finishes(trained: Trained, pair: Pair) -> bool:
    """Whether the greedy answer is the expected one, then a line break (base) or the end token (chat)."""
    answer = trained.tokenizer.encode(pair.answer)[1:]
    tokens, _ = trained.complete(pair.prompt, len(answer) + 1)
    if trained.recipe.end:
        return tokens == answer
    return trained.tokenizer.decode(tokens).split("\n")[0] == pair.answer


def held_in_score(trained: Trained) -> dict[str, tuple[int, int]]:
    """Language -> (proverbs finished correctly, proverbs asked)."""
    asked = [trained.recipe.ask(pair) for pair in text.read_pairs("proverbs")]
    done = {
        language: [finishes(trained, p) for p in asked if p.language == language] for language in LANGUAGES
    }
    return {language: (sum(results), len(results)) for language, results in done.items()}


def golden_data(trained: Trained) -> list[Golden]:
    """PER_LANGUAGE golden prompts of each language, English first; up to PLAIN of them are no proverbs."""
    proverbs = [trained.recipe.ask(pair) for pair in text.read_pairs("proverbs")]
    chosen: list[Golden] = []
    for language in LANGUAGES:
        others = most_exact(trained, plain(trained.recipe), language)[:PLAIN]
        chosen += (others + most_exact(trained, proverbs, language))[:PER_LANGUAGE]
    if len(chosen) != PER_LANGUAGE * len(LANGUAGES):
        raise SystemExit(f"{trained.recipe.name}: only {len(chosen)} prompts will do; train it longer")
    return chosen


def golden_beyond(trained: Trained) -> tuple[list[int], np.ndarray]:
    """Proverbs, one after the other, that are longer together than a window of training: their tokens, and
    the float32 logits [vocab] after them."""
    proverbs = "\n".join(pair.text for pair in text.read_pairs("proverbs"))
    ids = trained.tokenizer.encode(proverbs)[:BEYOND]
    return ids, last_logits(trained.model, ids).numpy()


def plain(recipe: Recipe) -> list[Pair]:
    """Questions that ask for no proverb (chat), or openings of longer texts (base)."""
    return [text.rendered(pair) for pair in text.read_pairs("chat")] if recipe.end else list(OPENINGS)


def most_exact(trained: Trained, pairs: Iterable[Pair], language: str) -> list[Golden]:
    """What the model knows and is sure of among pairs of a language, the most exactly computed first."""
    ours = (golden_prompt(trained, pair) for pair in pairs if pair.language == language)
    return sorted((golden for golden in ours if golden), key=lambda golden: golden.rounding)


def golden_prompt(trained: Trained, pair: Pair) -> Golden | None:
    """None unless the model surely gives the answer. A base model must go on through all TOKENS, a chat
    model must come to its end token."""
    tokens, lead = trained.complete(pair.prompt)
    answer = trained.tokenizer.encode(pair.answer)[1:]
    closed = tokens[-1] == trained.stop
    if tokens[: len(answer)] != answer or closed != bool(trained.recipe.end) or lead < LEAD:
        return None
    return record(trained, pair, tokens, lead)


def record(trained: Trained, pair: Pair, tokens: list[int], lead: float) -> Golden:
    ids, said = trained.tokenizer.encode(pair.prompt), trained.tokenizer.decode(tokens)
    logits = last_logits(trained.model, ids).numpy()
    exact = last_logits(copy.deepcopy(trained.model).double(), ids).numpy()
    rounding = float(np.abs(logits - exact).max())
    return Golden(pair.prompt, pair.language, ids, tokens, said, lead, logits, rounding)
