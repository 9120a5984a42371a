"""What any sound model's output looks like, for models whose exact output is not known.

Limits are rows of a table. Entropy is that of the next-token distribution over that of the uniform one:
0 is certain, 1 knows nothing. The demo models, the smallest there are, reach 0.65 on text they never saw; the
larger a model, the lower. Random weights lie near 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from internlm_zoo.loading.generate import decode, encode, encode_turns, greedy, last_logits, stop_ids
from internlm_zoo.loading.load import Loaded
from internlm_zoo.smoke.result import Check
from internlm_zoo.smoke.reward import reward_check

if TYPE_CHECKING:
    import torch

BEGINNINGS = ("The capital of France is", "One, two, three, four,", "中国的首都是", "白日依山尽，")
QUESTIONS = ("What is the capital of France?", "Say hello.", "中国的首都是哪里？", "1+1等于几？")
TOKENS = 64
NGRAM = 3
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class SoundnessLimits:
    """entropy: lowest and highest mean, relative to uniform. distinct: least share of different trigrams.

    text: whether half of what is written must be valid UTF-8 and some answer of a chat model end by itself.
    ranks: whether a reward model must prefer right answers.
    """

    entropy: tuple[float, float]
    distinct: float
    text: bool
    ranks: bool


TRAINED = SoundnessLimits(entropy=(0.0005, 0.8), distinct=0.1, text=True, ranks=True)
RANDOM = SoundnessLimits(entropy=(0.9, 1.0), distinct=0.0, text=False, ranks=False)


@dataclass(frozen=True)
class Sample:
    """One prompt's outcome. entropy: relative to uniform, NaN if a logit is not finite."""

    finite: bool
    entropy: float
    written: tuple[int, ...]
    text: str
    stopped: bool


def statistical_checks(
    loaded: Loaded, limits: SoundnessLimits = TRAINED, tokens: int = TOKENS
) -> Iterator[Check]:
    """Finite logits, entropy, repetition, valid UTF-8, and for a chat model that some answer ends by itself.

    Raises NotFoundError without a tokenizer.
    """
    if loaded.plan.directory.scores:
        yield reward_check(loaded, ranks=limits.ranks)
        return
    samples = [_sample(loaded, ids, tokens) for ids in _prompts(loaded)]
    yield _finite(samples)
    yield _entropy(samples, limits)
    if limits.distinct:
        yield _repetition(samples, limits)
    if limits.text:
        yield _utf8(samples)
        if loaded.plan.directory.takes_turns and loaded.plan.directory.kind:
            yield _stops(samples, tokens)


def relative_entropy(logits: torch.Tensor) -> float:
    """Entropy of softmax(logits [vocab]), over the log of the vocabulary's size."""
    chances = logits.double().log_softmax(-1)
    return float(-(chances.exp() * chances).sum() / math.log(logits.numel()))


def distinct_share(tokens: Sequence[int], length: int = NGRAM) -> float:
    """Different n-grams over all n-grams; 1 for a text too short to have one."""
    grams = [tuple(tokens[at : at + length]) for at in range(len(tokens) - length + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def _prompts(loaded: Loaded) -> list[list[int]]:
    if not loaded.plan.directory.takes_turns:
        return [encode(loaded, text) for text in BEGINNINGS]
    return [encode_turns(loaded, [{"role": "user", "content": text}]) for text in QUESTIONS]


def _sample(loaded: Loaded, ids: Sequence[int], limit: int) -> Sample:
    logits, stop = last_logits(loaded, ids), stop_ids(loaded)
    written = tuple(greedy(loaded, ids, limit, stop=stop))
    return Sample(
        finite=bool(logits.isfinite().all()),
        entropy=relative_entropy(logits),
        written=written,
        text=decode(loaded, ids, written),
        stopped=written[-1] in stop,
    )


def _finite(samples: Sequence[Sample]) -> Check:
    wrong = sum(not sample.finite for sample in samples)
    if not wrong:
        return Check("finite", True, "all logits are finite")
    found = f"{wrong} of {len(samples)} prompts give logits that are not finite"
    return Check("finite", False, f"{found}: the weights overflow or are damaged")


def _entropy(samples: Sequence[Sample], limits: SoundnessLimits) -> Check:
    mean = sum(sample.entropy for sample in samples) / len(samples)
    low, high = limits.entropy
    ok = low <= mean <= high
    found = f"entropy is {mean:.3f} of uniform (sound: {low:g} to {high:g})"
    return Check("entropy", ok, found if ok else f"{found}: the model does not predict text")


def _repetition(samples: Sequence[Sample], limits: SoundnessLimits) -> Check:
    share = sum(distinct_share(sample.written) for sample in samples) / len(samples)
    ok = share >= limits.distinct
    found = f"{share:.0%} of trigrams differ (at least {limits.distinct:.0%})"
    return Check("repetition", ok, found if ok else f"{found}: the model repeats itself")


def _utf8(samples: Sequence[Sample]) -> Check:
    # A text cut off at the limit may end inside a character. A small model spells rare characters in bytes
    # and may slip; one whose pieces are mixed up slips everywhere.
    wrong = [sample.text for sample in samples if REPLACEMENT in sample.text.rstrip(REPLACEMENT)]
    found = f"{len(wrong)} of {len(samples)} texts hold invalid UTF-8" if wrong else "all text is valid UTF-8"
    return Check("utf-8", len(wrong) <= len(samples) / 2, f"{found}: {wrong[0]!r}" if wrong else found)


def _stops(samples: Sequence[Sample], limit: int) -> Check:
    count = sum(sample.stopped for sample in samples)
    found = f"{count} of {len(samples)} answers end by themselves within {limit} tokens"
    return Check("stops", count > 0, found if count else f"{found}: the model does not know its end token")
