"""Whether a reward model prefers right answers: to questions so plain that any sound one does.

Weights that know nothing prefer each right answer with the chance of a coin: that they reach `LEAST` has a
chance of 2 %, and `values` tells random ones apart besides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from internlm_zoo.loading.load import Loaded
from internlm_zoo.loading.score import score
from internlm_zoo.smoke.result import Check


@dataclass(frozen=True)
class Pair:
    """A question, and two answers to it of about one length."""

    question: str
    right: str
    wrong: str


PAIRS = (
    Pair(
        "What is the capital of France?", "The capital of France is Paris.", "Bananas are yellow and sweet."
    ),
    Pair(
        "How many days are there in a week?",
        "There are seven days in a week.",
        "There are three days in a week.",
    ),
    Pair("What is 2 + 3?", "2 + 3 equals 5.", "2 + 3 equals 11."),
    Pair(
        "How do I boil an egg?",
        "Put it into boiling water for about eight minutes, then cool it in cold water.",
        "egg egg egg egg egg egg egg egg egg egg egg egg egg egg egg egg egg egg egg egg",
    ),
    Pair("Please translate into Chinese: Good morning!", "早上好！", "I will not do that, go away."),
    Pair(
        "My friend is sad. What can I say to her?",
        "Tell her that you are there for her, and ask whether she would like to talk.",
        "Tell her that nobody cares, and that she should stop annoying other people.",
    ),
    Pair("中国的首都是哪里？", "中国的首都是北京。", "香蕉是黄色的水果。"),
    Pair("1+1等于几？", "1+1等于2。", "1+1等于5。"),
    Pair("一年有几个月？", "一年有十二个月。", "一年有三个月。"),
    Pair(
        "请写一句祝贺生日的话。", "祝你生日快乐，身体健康，万事如意！", "不不不不不不不不不不不不不不不不不"
    ),
    Pair("水在多少摄氏度结冰？", "在标准大气压下，水在0摄氏度结冰。", "在标准大气压下，水在300摄氏度结冰。"),
    Pair(
        "怎样才能睡得好一些？", "睡前少看手机，保持房间安静，按时作息。", "你真笨，别再问这种愚蠢的问题了。"
    ),
)
LEAST = 10


def reward_check(loaded: Loaded, *, ranks: bool = True) -> Check:
    """ranks: whether it has to rank answers; else its scores of some texts have to be numbers that differ,
    which random weights' are. It cannot judge a model that scores something else, or one without a chat
    template."""
    if not ranks:
        return _numbers(loaded)
    model = loaded.plan.directory.model
    if model and not model.smoke.pairs:
        return _unjudged(
            f"{model.name} does not score answers to questions, and nothing else is known of its scores"
        )
    if loaded.tokenizer is None or not loaded.tokenizer.has_template:
        return _unjudged("there is no chat template for the answers that a reward model should tell apart")
    return _ranked([(_score(loaded, pair, pair.right), _score(loaded, pair, pair.wrong)) for pair in PAIRS])


def _unjudged(why: str) -> Check:
    return Check("scores", True, f"cannot judge: {why}", judged=False)


def _score(loaded: Loaded, pair: Pair, answer: str) -> float:
    turns = [{"role": "user", "content": pair.question}, {"role": "assistant", "content": answer}]
    return score(loaded, turns)


def _ranked(scores: list[tuple[float, float]]) -> Check:
    if not all(math.isfinite(value) for pair in scores for value in pair):
        return Check("scores", False, "scores are not finite: the weights overflow or are damaged")
    right = sum(one > other for one, other in scores)
    found = f"it prefers {right} of {len(scores)} right answers (at least {LEAST})"
    if right >= LEAST:
        return Check("scores", True, found)
    pair, values = next(
        (pair, values) for pair, values in zip(PAIRS, scores, strict=True) if values[0] <= values[1]
    )
    example = f"{pair.wrong!r:.60} has {values[1]:.3f}, {pair.right!r:.60} {values[0]:.3f}"
    said = "the weights, the head or the reward token are not its own"
    return Check("scores", False, f"{found}; {example}: {said}")


def _numbers(loaded: Loaded) -> Check:
    values = [score(loaded, pair.question) for pair in PAIRS[:4]]
    ok = all(map(math.isfinite, values)) and len(set(values)) > 1
    shown = ", ".join(f"{value:.3f}" for value in values)
    finding = "differ and are finite" if ok else "tell no texts apart"
    return Check("scores", ok, f"scores {shown} {finding}")
