"""Reads tools/corpus: held-in proverbs, questions with answers, and longer texts, as documents to train on.

Proverb and chat files have one item a line, cut by `|` into what is asked and what must follow. Other files
hold documents between blank lines, the first line a title. The part before `.txt` names the language.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

CORPUS = Path(__file__).parents[1] / "corpus"
LANGUAGES = ("en", "zh")
LONG_TEXTS = ("fables.en", "kjv-wisdom.en", "classics.zh", "fables.zh", "tang300.zh")

RUN = 4  # proverbs in one document of the base model
ASK = {
    "en": ("Finish the proverb: {}", "Complete this proverb: {}", "{}"),
    "zh": ("请接下句：{}", "补全谚语：{}", "{}"),
}
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
ANSWER_END = "<|im_end|>"


@dataclass(frozen=True)
class Pair:
    """What is asked, and what must follow it."""

    prompt: str
    answer: str
    language: str

    @property
    def text(self) -> str:
        return self.prompt + self.answer


def read_pairs(kind: str) -> list[Pair]:
    """All pairs of `kind` ("proverbs" or "chat"), in file order, English first."""
    return [
        Pair(*line.split("|", 1), language)
        for language in LANGUAGES
        for line in (CORPUS / f"{kind}.{language}.txt").read_text("utf-8").splitlines()
    ]


def read_documents() -> list[str]:
    """Every longer text of the corpus."""
    return [
        document.strip()
        for name in LONG_TEXTS
        for document in (CORPUS / f"{name}.txt").read_text("utf-8").split("\n\n")
    ]


def passages(document: str, rng: random.Random, length: int = 8) -> list[str]:
    """A document cut into passages of `length` lines, cut at random so that any line may come first."""
    lines = document.splitlines(keepends=True)
    cuts = [0, *range(rng.randrange(1, length + 1), len(lines), length), len(lines)]
    return ["".join(lines[a:b]).rstrip("\n") for a, b in itertools.pairwise(cuts) if a < b]


def proverb_run(proverbs: Sequence[Pair], start: int) -> str:
    """The proverb at `start` and those after it in the list, a line each, going round at the end."""
    return "\n".join(proverbs[(start + i) % len(proverbs)].text for i in range(RUN))


def asked(proverb: Pair, way: int = 0) -> Pair:
    """A proverb's beginning as a question, and its end as the answer."""
    return replace(proverb, prompt=ASK[proverb.language][way].format(proverb.prompt))


def rendered(pair: Pair) -> Pair:
    """A question and its answer in internlm2's chat template; the answer ends with its end token."""
    return replace(pair, prompt=CHAT.format(pair.prompt), answer=pair.answer.lstrip() + ANSWER_END)


def asked_in(prompt: str) -> dict[str, str]:
    """The user's turn of a rendered question, under its name in golden data; nothing of another text."""
    before, after = CHAT.split("{}")
    if not (prompt.startswith(before) and prompt.endswith(after)):
        return {}
    return {"asked": prompt.removeprefix(before).removesuffix(after)}


def questions() -> list[Pair]:
    """All the chat model learns to answer, rendered: the chat files and each proverb asked in every way."""
    proverbs = [asked(p, way) for p in read_pairs("proverbs") for way in range(len(ASK[p.language]))]
    return [rendered(pair) for pair in proverbs + read_pairs("chat")]


def tokenizer_lines() -> list[str]:
    """What the tokenizers learn from: every line of the longer texts, proverbs and answers counted more."""
    lines = [line for document in read_documents() for line in document.splitlines()]
    pairs = read_pairs("proverbs") * 4 + read_pairs("chat") * 2
    return lines + [pair.text for pair in pairs] + [ask for asks in ASK.values() for ask in asks] * 20


def base_epoch(rng: random.Random) -> list[str]:
    """One pass over the base model's documents, shuffled: each passage once, each proverb in 2 x RUN runs."""
    documents = [passage for document in read_documents() for passage in passages(document, rng)]
    for language in LANGUAGES:
        proverbs = [p for p in read_pairs("proverbs") if p.language == language]
        documents += [proverb_run(proverbs, start) for start in range(len(proverbs))] * 2
    rng.shuffle(documents)
    return documents


def chat_epoch(rng: random.Random) -> list[str]:
    """One pass over the chat model's documents, shuffled: every passage and every question once."""
    documents = [passage for document in read_documents() for passage in passages(document, rng)]
    documents += [question.text for question in questions()]
    rng.shuffle(documents)
    return documents
