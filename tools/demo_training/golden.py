"""What a trained model knows, by its own float32 forward pass: the held-in score and the golden data.

A golden prompt is one whose every greedy token leads the runner-up by LEAD logits, and whose logits float32
computes to within ROUNDING of float64. So whoever sums in another order, just as exactly, comes to the same
tokens and to logits within 1e-5, and a wrong conversion does not.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from torch import nn

from . import text
from .model import greedy, last_logits
from .recipes import Recipe
from .text import LANGUAGES, Pair
from .tokenizer import EOS, Tokenizer

LEAD = 0.1
ROUNDING = 5e-6
TOKENS = 32
PER_LANGUAGE = 8
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
    """One prompt with what the model makes of it.

    logits: float32 [vocab] after the last input token. lead: the least certain greedy token's, in logits.
    """

    prompt: str
    language: str
    input_ids: list[int]
    greedy: list[int]
    text: str
    lead: float
    logits: np.ndarray


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
    """PER_LANGUAGE golden prompts of each language, English first."""
    chosen = [
        found for language in LANGUAGES for found in islice(golden_prompts(trained, language), PER_LANGUAGE)
    ]
    if len(chosen) != PER_LANGUAGE * len(LANGUAGES):
        raise SystemExit(
            f"{trained.recipe.name}: only {len(chosen)} prompts are sure enough; train it longer"
        )
    return chosen


def golden_prompts(trained: Trained, language: str) -> Iterator[Golden]:
    """The candidates of a language that the model knows and is sure of. A base model must go on through all
    TOKENS, a chat model must come to its end token."""
    for pair in candidates(trained.recipe, language):
        tokens, lead = trained.complete(pair.prompt)
        answer = trained.tokenizer.encode(pair.answer)[1:]
        closed = tokens[-1] == trained.stop
        if tokens[: len(answer)] == answer and closed == bool(trained.recipe.end) and lead >= LEAD:
            golden = record(trained, pair, tokens, lead)
            if rounding(trained, golden) <= ROUNDING:
                yield golden


def rounding(trained: Trained, golden: Golden) -> float:
    """The largest difference of the golden logits from what float64 makes of the same weights."""
    exact = last_logits(copy.deepcopy(trained.model).double(), golden.input_ids).numpy()
    return float(np.abs(golden.logits - exact).max())


def candidates(recipe: Recipe, language: str) -> Iterator[Pair]:
    """Openings of longer texts (base) or plain questions (chat), then proverbs, shuffled."""
    plain = [text.rendered(p) for p in text.read_pairs("chat")] if recipe.end else list(OPENINGS)
    proverbs = [recipe.ask(pair) for pair in text.read_pairs("proverbs")]
    for pairs, most in ((plain, PER_LANGUAGE // 2), (proverbs, len(proverbs))):
        ours = [p for p in pairs if p.language == language]
        yield from random.Random(0).sample(ours, min(most, len(ours)))


def record(trained: Trained, pair: Pair, tokens: list[int], lead: float) -> Golden:
    ids = trained.tokenizer.encode(pair.prompt)
    logits = last_logits(trained.model, ids).numpy()
    return Golden(pair.prompt, pair.language, ids, tokens, trained.tokenizer.decode(tokens), lead, logits)
