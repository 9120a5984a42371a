"""Compares a model with golden data: what another program computed from the very weights that were released.

`golden/<model>.json` and `.npy` hold prompts, their token ids, the greedy continuation and the float32 logits
after each prompt, by the training module's own forward pass. It shares no code with the conversion or with
transformers, so agreement means that weights, their order and the tokenizer all arrived.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from converters.containers.names import RECORD
from converters.formats.bytesource import LocalFile, hex_of
from converters.sinks.digests import fingerprint_of, fingerprint_of_all
from internlm_zoo.errors import NotFoundError
from internlm_zoo.loading.directory import ModelDirectory
from internlm_zoo.loading.generate import encode, encode_turns, greedy, last_logits, stop_ids
from internlm_zoo.loading.load import Loaded
from internlm_zoo.smoke.config_causes import config_cause
from internlm_zoo.smoke.result import Check

if TYPE_CHECKING:
    import numpy as np

FOLDER = Path(__file__).with_name("golden")
# Of a prompt's largest logit. Two right computations in float32 differ by the order they sum in, on golden
# prompts by a ninth of this at most (docs/smoke.md); exchanged heads, swapped tensors or a dropped bias move
# logits by a tenth of the largest and more.
TOLERANCE = 1e-5
_WEIGHTS = "the weights or their order are not those released"
_TRIED = 2  # prompts that have to come back with another config


@dataclass(frozen=True)
class Prompt:
    """prompt: rendered through the chat template for a chat model. greedy: the tokens that follow it. asked:
    of a chat model the user's turn in it, whose answer ends with the last of these tokens."""

    prompt: str
    input_ids: tuple[int, ...]
    greedy: tuple[int, ...]
    text: str
    asked: str | None = None


@dataclass(frozen=True)
class Golden:
    """weights: file name -> sha256 of the released weights. logits: float32 [prompts, vocab]. beyond: token
    ids of a text longer than those of training, if there is one, with the logits after it (beyond_logits
    [vocab])."""

    model: str
    weights: Mapping[str, str]
    prompts: tuple[Prompt, ...]
    logits: np.ndarray
    beyond: tuple[int, ...] = ()
    beyond_logits: np.ndarray | None = None


@dataclass(frozen=True)
class Reading:
    """What the model at hand makes of one prompt. away: largest difference of a logit from the golden one.
    off: the same over the largest golden one. greedy: up to the first that is not golden; one more than all
    golden ones where these end an answer and the model goes on."""

    number: int
    golden: Prompt
    away: float
    off: float
    greedy: tuple[int, ...]

    @property
    def same_tokens(self) -> bool:
        return self.greedy[: len(self.golden.greedy)] == self.golden.greedy

    @property
    def goes_on(self) -> bool:
        return len(self.greedy) > len(self.golden.greedy)


def load_golden(name: str, folder: Path = FOLDER) -> Golden:
    """Raises NotFoundError if there is no golden data of that name."""
    import numpy as np

    path = folder / f"{name}.json"
    if not path.exists():
        raise NotFoundError(f"there is no golden data for {name}", path)
    document = json.loads(path.read_text(encoding="utf-8"))
    prompts = tuple(
        Prompt(row["prompt"], tuple(row["input_ids"]), tuple(row["greedy"]), row["text"], row.get("asked"))
        for row in document["prompts"]
    )
    beyond = tuple(document.get("beyond", ()))
    of_beyond = np.load(path.with_suffix(".beyond.npy")) if beyond else None
    logits = np.load(path.with_suffix(".npy"))
    return Golden(document["model"], document["weights"], prompts, logits, beyond, of_beyond)


def golden_checks(loaded: Loaded, golden: Golden) -> Iterator[Check]:
    """Weights' digests where the files are those released, token ids, chat template, logits, greedy tokens
    and where they end; of wrong logits also whether the config is to blame.

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
        yield from _template(loaded, golden)
    readings, far = readings_of(loaded, golden)
    because = _because(loaded, golden, readings, far)
    yield _logits(readings, because)
    yield _greedy(loaded, readings, because)
    yield from _ends(loaded, readings)
    if golden.beyond:
        yield _positions(len(golden.beyond), far, because)


def _because(loaded: Loaded, golden: Golden, readings: Sequence[Reading], far: float) -> str:
    """What other logits than golden ones mean."""
    wrong = [one for one in readings if one.off > TOLERANCE]
    if not wrong and far <= TOLERANCE:
        return _WEIGHTS
    found = config_cause(loaded, partial(_comes_back, golden, wrong[:_TRIED]))
    return f"{found} they are golden: the config is wrong" if found else _WEIGHTS


def readings_of(loaded: Loaded, golden: Golden) -> tuple[list[Reading], float]:
    """Of every prompt, and how far off (`Reading.off`) the logits beyond the trained length are."""
    return [_read(loaded, golden, index) for index in range(len(golden.prompts))], _off_beyond(loaded, golden)


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
        elif _holds_released(directory):
            yield Check(
                "weights", True, f"{name} has other bytes than the released file, and the same weights"
            )
        else:
            sentence = f"{name} is not the file that was released: its sha256 is {found[:12]}…"
            yield Check("weights", False, f"{sentence}, not {expected[:12]}…")


def _holds_released(directory: ModelDirectory) -> bool:
    """Whether the values are, whatever bytes they were saved in."""
    known = directory.model and directory.model.fingerprint
    return known is not None and fingerprint_of_all(fingerprint_of(directory.checkpoint)) == known


def _token_ids(loaded: Loaded, golden: Golden) -> Check:
    for number, prompt in enumerate(golden.prompts, 1):
        found = encode(loaded, prompt.prompt)
        if tuple(found) != prompt.input_ids:
            wrong = f"prompt {number}: the tokenizer gives {found[:8]}…, not {list(prompt.input_ids[:8])}…"
            return Check("token ids", False, f"{wrong}: it is not the one the model was trained with")
    return Check("token ids", True, f"the token ids of {len(golden.prompts)} prompts are the golden ones")


def _template(loaded: Loaded, golden: Golden) -> Iterator[Check]:
    """What was asked, rendered by the template that the model has here."""
    asked = [(number, prompt) for number, prompt in enumerate(golden.prompts, 1) if prompt.asked is not None]
    if not asked or loaded.tokenizer is None or not loaded.tokenizer.has_template:
        return
    for number, prompt in asked:
        turn = {"role": "user", "content": str(prompt.asked)}
        if tuple(encode_turns(loaded, [turn])) != prompt.input_ids:
            what = f"prompt {number}: the chat template does not make {prompt.prompt!r} of {prompt.asked!r}"
            yield Check("chat template", False, f"{what}: it is not the one the model was trained with")
            return
    said = f"the chat template renders {len(asked)} turns as they were trained"
    yield Check("chat template", True, said)


def _read(loaded: Loaded, golden: Golden, index: int) -> Reading:
    prompt, expected = golden.prompts[index], golden.logits[index]
    away = _distance(loaded, prompt.input_ids, expected)
    stop = stop_ids(loaded) if loaded.tokenizer else frozenset[int]()
    limit = len(prompt.greedy) + (bool(stop) and prompt.asked is not None)
    tokens = _until_other(greedy(loaded, prompt.input_ids, limit, stop=stop), prompt.greedy)
    return Reading(index + 1, prompt, away, away / _largest(expected), tuple(tokens))


def _until_other(tokens: Iterator[int], golden: Sequence[int]) -> Iterator[int]:
    """Each costs a forward pass, and those after the first that is not golden say nothing more."""
    for found, expected in zip_longest(tokens, golden):
        if found is None:
            return
        yield found
        if found != expected:
            return


def _distance(loaded: Loaded, ids: Sequence[int], golden: np.ndarray) -> float:
    """Largest difference of a logit after these tokens; infinite if one is no number."""
    away = float(abs(last_logits(loaded, ids).numpy() - golden).max())
    return away if math.isfinite(away) else math.inf


def _largest(logits: np.ndarray) -> float:
    return float(abs(logits).max())


def _comes_back(golden: Golden, wrong: Sequence[Reading], other: Loaded) -> bool:
    """Whether a model that is loaded otherwise gives the golden logits that were not found."""
    for reading in wrong:
        expected = golden.logits[reading.number - 1]
        if _distance(other, reading.golden.input_ids, expected) > TOLERANCE * _largest(expected):
            return False
    return _off_beyond(other, golden) <= TOLERANCE


def _logits(readings: list[Reading], because: str) -> Check:
    wrong = [reading for reading in readings if reading.off > TOLERANCE]
    if not wrong:
        off = max(reading.off for reading in readings)
        said = f"logits differ by at most {off:.1e} of the largest (allowed: {TOLERANCE:.0e})"
        return Check("logits", True, said)
    said = f"{len(wrong)} of {len(readings)} prompts: {_difference(readings)}"
    return Check("logits", False, f"{said}: {because}")


def _greedy(loaded: Loaded, readings: list[Reading], because: str) -> Check:
    wrong = [reading for reading in readings if not reading.same_tokens]
    if not wrong:
        count = sum(len(reading.golden.greedy) for reading in readings)
        return Check("tokens", True, f"all {count} greedy tokens are the golden ones")
    first = wrong[0]
    pairs = enumerate(zip_longest(first.golden.greedy, first.greedy))
    at = next(place for place, (golden, own) in pairs if golden != own)
    both = (first.golden.greedy, first.greedy)
    expected, found = (_shown(loaded, tokens[at : at + 1]) for tokens in both)
    said = f"prompt {first.number}: expected {expected}, got {found} as token {at + 1}"
    return Check("tokens", False, f"{said}; {_difference(readings)}: {because}")


def _ends(loaded: Loaded, readings: list[Reading]) -> Iterator[Check]:
    """Whether answers end where they ended in training; a base model's golden tokens are cut off."""
    answers = [one for one in readings if one.golden.asked is not None and one.same_tokens]
    on = [reading for reading in answers if reading.goes_on]
    if on:
        last = _shown(loaded, on[0].golden.greedy[-1:])
        said = f"{len(on)} of {len(answers)} answers go on after {last}"
        yield Check("eos", False, f"{said}: it is not among the tokens that end one")
    elif answers:
        yield Check("eos", True, f"{len(answers)} answers end by themselves")


def _off_beyond(loaded: Loaded, golden: Golden) -> float:
    """As `Reading.off`, where the model was not trained, and rotary scaling shows."""
    if golden.beyond_logits is None:
        return 0.0
    return _distance(loaded, golden.beyond, golden.beyond_logits) / _largest(golden.beyond_logits)


def _positions(count: int, off: float, because: str) -> Check:
    said = f"after {count} tokens, more than it was trained on, logits differ by {off:.1e} of the largest"
    ok = off <= TOLERANCE
    return Check("positions", ok, said if ok else f"{said}: {because}")


def _difference(readings: list[Reading]) -> str:
    return f"logits differ by up to {max(reading.away for reading in readings):.2g}"


def _shown(loaded: Loaded, tokens: Sequence[int]) -> str:
    """One token; none where the text has ended."""
    if not tokens:
        return "the end"
    return repr(loaded.tokenizer.decode(tokens)) if loaded.tokenizer else f"token {tokens[0]}"
