"""Compares a model with golden data: what another program computed from the very weights that were released.

`golden/<model>.json` and `.npy` hold prompts, their token ids, the greedy continuation and the float32 logits
after each prompt, by the training module's own forward pass. It shares no code with the conversion or with
transformers, so agreement means that weights, their order and the tokenizer all arrived.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converters.containers.names import RECORD
from converters.formats.bytesource import LocalFile, hex_of
from internlm_zoo.errors import NotFoundError
from internlm_zoo.loading.directory import ModelDirectory
from internlm_zoo.loading.generate import encode, greedy, last_logits
from internlm_zoo.loading.load import Loaded
from internlm_zoo.smoke.result import Check

if TYPE_CHECKING:
    import numpy as np

FOLDER = Path(__file__).with_name("golden")
# In logits. Two right computations in float32 differ by the order they sum in, on the golden prompts by half
# of this; exchanged heads, swapped tensors or a dropped bias move logits by 1 and more.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Prompt:
    """prompt: rendered through the chat template for a chat model. greedy: the tokens that follow it."""

    prompt: str
    input_ids: tuple[int, ...]
    greedy: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Golden:
    """weights: file name -> sha256 of the released weights. logits: float32 [prompts, vocab]."""

    model: str
    weights: Mapping[str, str]
    prompts: tuple[Prompt, ...]
    logits: np.ndarray


@dataclass(frozen=True)
class Reading:
    """What the model at hand makes of one prompt. away: largest difference of a logit from the golden one."""

    number: int
    golden: Prompt
    away: float
    greedy: tuple[int, ...]

    @property
    def same_tokens(self) -> bool:
        return self.greedy == self.golden.greedy


def load_golden(name: str, folder: Path = FOLDER) -> Golden:
    """Raises NotFoundError if there is no golden data of that name."""
    import numpy as np

    path = folder / f"{name}.json"
    if not path.exists():
        raise NotFoundError(f"there is no golden data for {name}", path)
    document = json.loads(path.read_text(encoding="utf-8"))
    prompts = tuple(
        Prompt(row["prompt"], tuple(row["input_ids"]), tuple(row["greedy"]), row["text"])
        for row in document["prompts"]
    )
    return Golden(document["model"], document["weights"], prompts, np.load(path.with_suffix(".npy")))


def golden_checks(loaded: Loaded, golden: Golden) -> Iterator[Check]:
    """Weights' digests where the files are those released, token ids, logits, greedy tokens.

    loaded: in float32, for that is what the golden data was computed in.
    """
    yield from _weights(loaded.plan.directory, golden)
    size = loaded.model.config.vocab_size
    if size != golden.logits.shape[1]:
        what = f"it has {size} tokens and {golden.model} {golden.logits.shape[1]}: another model"
        yield Check("vocabulary", False, what)
        return
    if loaded.tokenizer is not None:
        yield _token_ids(loaded, golden)
    readings = [_read(loaded, golden, index) for index in range(len(golden.prompts))]
    yield _logits(readings)
    yield _greedy(loaded, readings)


def _weights(directory: ModelDirectory, golden: Golden) -> Iterator[Check]:
    """Only for the files that were released: what was converted has other bytes, and its output judges it."""
    names = set(directory.checkpoint.files)
    if names != golden.weights.keys() or (directory.path / RECORD).exists():
        return
    for name, expected in golden.weights.items():
        with LocalFile(directory.path / name) as file:
            found = hex_of(file, hashlib.sha256())
        if found == expected:
            yield Check("weights", True, f"{name} is the released file")
        else:
            sentence = f"{name} is not the file that was released: its sha256 is {found[:12]}…"
            yield Check("weights", False, f"{sentence}, not {expected[:12]}…")


def _token_ids(loaded: Loaded, golden: Golden) -> Check:
    for number, prompt in enumerate(golden.prompts, 1):
        found = encode(loaded, prompt.prompt)
        if tuple(found) != prompt.input_ids:
            wrong = f"prompt {number}: the tokenizer gives {found[:8]}…, not {list(prompt.input_ids[:8])}…"
            return Check("token ids", False, f"{wrong}: it is not the one the model was trained with")
    return Check("token ids", True, f"the token ids of {len(golden.prompts)} prompts are the golden ones")


def _read(loaded: Loaded, golden: Golden, index: int) -> Reading:
    prompt = golden.prompts[index]
    logits = last_logits(loaded, prompt.input_ids).numpy()
    tokens = greedy(loaded, prompt.input_ids, len(prompt.greedy))
    return Reading(index + 1, prompt, _distance(logits, golden.logits[index]), tuple(tokens))


def _distance(logits: np.ndarray, golden: np.ndarray) -> float:
    """Largest difference of a logit; infinite if one is no number."""
    away = float(abs(logits - golden).max())
    return away if math.isfinite(away) else math.inf


def _logits(readings: list[Reading]) -> Check:
    wrong = [reading for reading in readings if reading.away > TOLERANCE]
    if not wrong:
        furthest = max(reading.away for reading in readings)
        return Check("logits", True, f"logits differ by at most {furthest:.1e} (allowed: {TOLERANCE:.0e})")
    return Check("logits", False, f"{len(wrong)} of {len(readings)} prompts: {_difference(readings)}")


def _greedy(loaded: Loaded, readings: list[Reading]) -> Check:
    wrong = [reading for reading in readings if not reading.same_tokens]
    if not wrong:
        count = sum(len(reading.golden.greedy) for reading in readings)
        return Check("tokens", True, f"all {count} greedy tokens are the golden ones")
    first = wrong[0]
    pairs = enumerate(zip(first.golden.greedy, first.greedy, strict=False))
    at = next(place for place, (golden, own) in pairs if golden != own)
    expected, found = (_shown(loaded, tokens[at]) for tokens in (first.golden.greedy, first.greedy))
    said = f"prompt {first.number}: expected {expected}, got {found} as token {at + 1}"
    return Check("tokens", False, f"{said}; {_difference(readings)}")


def _difference(readings: list[Reading]) -> str:
    furthest = max(reading.away for reading in readings)
    return f"logits differ by up to {furthest:.2g}: the weights or their order are not those released"


def _shown(loaded: Loaded, token: int) -> str:
    return repr(loaded.tokenizer.decode([token])) if loaded.tokenizer else f"token {token}"
