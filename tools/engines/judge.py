"""Asks an engine, in its own environment, about one directory; the golden data judge the answer."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from internlm_zoo.smoke.golden import Golden, Prompt, load_golden
from tools.demo_training.files import MODELS
from tools.engines.table import Engine, Outcome
from tools.venvs import ROOT

_EXCEPTION = re.compile(r"[\w.]*(Error|Exception)\b: ")
# How far a continuation may go on where it should have ended.
BEYOND = 8
# The most that one engine may take for one directory, in seconds: one that hangs is named, not waited for.
PATIENCE = 900


@dataclass(frozen=True)
class Subject:
    """A demo model in one form. eot: the token that ends its turns."""

    directory: Path
    form: str
    golden: Golden
    eot: int | None


def subject(directory: Path, form: str, model: str) -> Subject:
    """eot: what the golden continuations all end with, if they do."""
    golden = load_golden(model)
    last = {prompt.greedy[-1] for prompt in golden.prompts}
    return Subject(directory, form, golden, last.pop() if len(last) == 1 else None)


def ask(engine: Engine, python: Path, subject: Subject, texts: Sequence[str]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder, "request.json"), Path(folder, "answer.json")
        request.write_text(json.dumps(_request(subject, texts)), encoding="utf-8")
        refusal = _run([python, engine.probe, request, answer])
        if refusal is not None:
            return Outcome(engine, subject.form, subject.golden.model, refusal=refusal)
        found = json.loads(answer.read_text(encoding="utf-8"))
    return _judged(engine, subject, found, _wanted_ids(subject.golden, texts))


def _request(subject: Subject, texts: Sequence[str]) -> dict[str, Any]:
    prompts = subject.golden.prompts
    return {
        "directory": str(subject.directory),
        "vocab": subject.golden.logits.shape[1],
        "texts": [*(prompt.prompt for prompt in prompts), *texts],
        "prompts": [
            {"ids": prompt.input_ids, "greedy": prompt.greedy, "most": len(prompt.greedy) + BEYOND}
            for prompt in prompts
        ],
    }


def _run(command: Sequence[str | Path]) -> str | None:
    """Why it failed: its last exception, else the last line that it printed on stderr."""
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    alone["OMP_NUM_THREADS"] = "1"  # threads that wait for one another by spinning are slow on a busy machine
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, env=alone
        )
    except subprocess.TimeoutExpired:
        return f"gave no answer in {PATIENCE} s"
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    named = [line for line in lines if _EXCEPTION.match(line)]
    return [f"ended with {done.returncode} and no word", *lines[-1:], *named[-1:]][-1].strip()


def _wanted_ids(golden: Golden, texts: Sequence[str]) -> list[list[int]]:
    from sentencepiece import SentencePieceProcessor

    model = SentencePieceProcessor(model_file=str(ROOT / MODELS / golden.model / "tokenizer.model"))
    cut = ([model.bos_id(), *model.encode(text)] for text in texts)
    return [*(list(prompt.input_ids) for prompt in golden.prompts), *cut]


def _judged(
    engine: Engine, subject: Subject, found: Mapping[str, Any], wanted: Sequence[Sequence[int]]
) -> Outcome:
    prompts, tokens = subject.golden.prompts, found["tokens"]
    return Outcome(
        engine,
        subject.form,
        subject.golden.model,
        ids=_count(one == other for one, other in zip(found["ids"], wanted, strict=True)),
        tokens=_count(_begins(prompt, given) for prompt, given in zip(prompts, tokens, strict=True)),
        away=_away(found, subject.golden.logits),
        text=_count(prompt.text == text for prompt, text in zip(prompts, found["text"], strict=True)),
        stops=None
        if subject.eot is None
        else _count(len(given) <= len(prompt.greedy) for prompt, given in zip(prompts, tokens, strict=True)),
    )


def _begins(prompt: Prompt, given: Sequence[int]) -> bool:
    """Whether a continuation is the golden one; an engine may leave out the token that it stopped at."""
    golden = list(prompt.greedy)
    return given[: len(golden)] in (golden, golden[:-1])


def _count(verdicts: Iterable[bool]) -> tuple[int, int]:
    found = list(verdicts)
    return sum(found), len(found)


def _away(found: Mapping[str, Any], golden: np.ndarray) -> float | None:
    """Of log-probabilities, which every engine has that has logits."""
    if "logits" in found:
        given = _log_softmax(np.array(found["logits"], np.float64))
    elif "logprobs" in found:
        given = np.array(found["logprobs"], np.float64)
    else:
        return None
    return float(abs(given - _log_softmax(golden.astype(np.float64))).max())


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
