"""The forward passes of two checkpoints, held against each other on the same tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internlm_zoo.errors import UnsupportedError
from internlm_zoo.loading.generate import all_logits
from internlm_zoo.loading.load import load_model
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings

if TYPE_CHECKING:
    import numpy as np

_PROMPTS, _LENGTH, _SEED = 4, 16, 0


@dataclass(frozen=True)
class LogitsComparison:
    """prompts, positions: how many were compared, the latter in all prompts together. max_difference: of two
    logits, at (prompt, position, token), counted from 0. same_choice: positions whose likeliest token is the
    same on both sides."""

    prompts: int
    positions: int
    max_difference: float
    where: tuple[int, int, int]
    same_choice: int


def compare_logits(
    one: str | Path,
    other: str | Path,
    *,
    settings: Settings,
    given: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> LogitsComparison:
    """Run both in float32 on the CPU, one after the other, on seeded random tokens.

    given: facts that the configs do not state. Raises UnsupportedError if the vocabularies differ in size or
    torch is not there, and what loading raises.
    """
    found = []
    for path in (one, other):
        loaded = load_model(
            path, settings=settings, devices=["cpu"], dtype="float32", given=given, progress=progress
        )
        size = int(loaded.model.config.vocab_size)
        found.append((size, [all_logits(loaded, ids).numpy() for ids in _prompts(size)]))
        del loaded
    (size, ours), (other_size, theirs) = found
    if size != other_size:
        raise UnsupportedError(f"one has {size} tokens and the other {other_size}", "--logits")
    return _compare(ours, theirs)


def _prompts(vocabulary: int) -> Iterator[list[int]]:
    dice = random.Random(_SEED)
    return ([dice.randrange(vocabulary) for _ in range(_LENGTH)] for _ in range(_PROMPTS))


def _compare(ours: list[np.ndarray], theirs: list[np.ndarray]) -> LogitsComparison:
    import numpy as np

    gaps = np.nan_to_num(np.abs(np.stack(ours) - np.stack(theirs)), nan=np.inf)
    prompt, position, token = (int(i) for i in np.unravel_index(int(gaps.argmax()), gaps.shape))
    same = np.stack(ours).argmax(-1) == np.stack(theirs).argmax(-1)
    return LogitsComparison(
        prompts=gaps.shape[0],
        positions=gaps.shape[0] * gaps.shape[1],
        max_difference=float(gaps.max()),
        where=(prompt, position, token),
        same_choice=int(same.sum()),
    )
