"""The forward passes of two checkpoints, held against each other on the same tokens."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from internlm_zoo.errors import UnsupportedError
from internlm_zoo.loading.directory import LoadRequest
from internlm_zoo.loading.generate import all_logits
from internlm_zoo.loading.load import LoadPlan, execute, plan_load
from internlm_zoo.loading.tokenizer import find_tokenizer
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    import numpy as np

    Logits = np.ndarray[Any, np.dtype[np.float32]]

TEXTS = ("The capital of France is", "def add(a, b):\n    return", "千里之行，始于足下。")
_PROMPTS, _LENGTH, _SEED = 4, 16, 0  # few and short: every token is compared over the whole vocabulary


@dataclass(frozen=True)
class LogitsComparison:
    """prompts, positions: how many were compared, the latter in all prompts together; random tokens come
    first, then texts. vocabulary: how many tokens both sides have. texts: prompts that are texts.
    other_tokens: texts that were left out, as the two tokenizers turn them into other tokens. max_difference:
    of two logits, inf where one is no number, at (prompt, position, token), counted from 0. same_choice:
    positions whose likeliest token is the same on both sides; choices_agree: whether all are."""

    prompts: int
    positions: int
    vocabulary: int
    texts: int
    other_tokens: tuple[str, ...]
    max_difference: float
    where: tuple[int, int, int]
    same_choice: int
    choices_agree: bool


def compare_logits(
    sides: Sequence[LoadRequest], *, settings: Settings, progress: Progress | None = None
) -> LogitsComparison:
    """Run both, one after the other, on seeded random tokens that both have and, if both have a tokenizer, on
    a few texts.

    Raises UnsupportedError if only one is a reward model or torch is not there, and what loading raises.
    """
    plans = [plan_load(side, settings=settings, progress=progress) for side in sides]
    if len({"reward.weight" in plan.directory.checkpoint.tensors for plan in plans}) > 1:
        raise UnsupportedError("one is a reward model and the other is not", "their logits")
    vocabulary = min(plan.directory.checkpoint.sizes["vocab"] for plan in plans)
    same, apart = _texts(plans, vocabulary)
    prompts = [*_random(vocabulary), *same]
    ours, theirs = (_run(plan, prompts) for plan in plans)
    return _compare(ours, theirs, vocabulary, len(same), apart)


def _random(vocabulary: int) -> Iterator[list[int]]:
    dice = random.Random(_SEED)
    return ([dice.randrange(vocabulary) for _ in range(_LENGTH)] for _ in range(_PROMPTS))


def _texts(plans: Sequence[LoadPlan], vocabulary: int) -> tuple[list[list[int]], tuple[str, ...]]:
    """Tokens of the texts on which both tokenizers agree, and the texts on which they do not."""
    one, other = (find_tokenizer(plan.directory) for plan in plans)
    if one is None or other is None:
        return [], ()
    cut = {text: (one.encode(text), other.encode(text)) for text in TEXTS}
    same = {text: a for text, (a, b) in cut.items() if a == b and all(0 <= id < vocabulary for id in a)}
    return list(same.values()), tuple(text for text in TEXTS if text not in same)


def _run(plan: LoadPlan, prompts: Sequence[Sequence[int]]) -> list[Logits]:
    """[positions, vocab] for each prompt."""
    gc.collect()  # a model that was run before is a cycle, and would stay
    loaded = execute(plan)
    return [all_logits(loaded, ids).numpy() for ids in prompts]


def _compare(
    ours: Sequence[Logits],
    theirs: Sequence[Logits],
    vocabulary: int,
    texts: int,
    other_tokens: tuple[str, ...],
) -> LogitsComparison:
    import numpy as np

    a, b = (np.concatenate([logits[:, :vocabulary] for logits in side]) for side in (ours, theirs))
    with np.errstate(invalid="ignore"):
        gaps = np.where(a == b, 0, np.nan_to_num(np.abs(a - b), nan=np.inf, posinf=np.inf))
    row, token = (int(i) for i in np.unravel_index(int(gaps.argmax()), gaps.shape))
    ends = np.cumsum([len(logits) for logits in ours])
    prompt = int(np.searchsorted(ends, row, side="right"))
    same = int((a.argmax(-1) == b.argmax(-1)).sum())
    return LogitsComparison(
        prompts=len(ours),
        positions=len(a),
        vocabulary=vocabulary,
        texts=texts,
        other_tokens=other_tokens,
        max_difference=float(gaps.max()),
        where=(prompt, row - int(ends[prompt]) + len(ours[prompt]), token),
        same_choice=same,
        choices_agree=same == len(a),
    )
