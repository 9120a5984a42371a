"""Writes docs/demo-models.md and its picture from what a training run measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from . import text
from .golden import Golden, Trained, finishes
from .training import REPORTED, Run

TEMPLATE = Path(__file__).with_name("report.md")
PICTURE = Path("docs", "images", "demo-training.png")
PAGE = Path("docs", "demo-models.md")
NAMES = {"en": "English", "zh": "Chinese"}

BEGINNINGS = ("A stitch in time", "The early bird", "Honesty", "千里之行，", "海内存知己，", "人之初，")
QUESTIONS = (
    "Hello!",
    "Finish the proverb: Where there is a will,",
    "Who saved the lion?",
    "你是谁？",
    "请接下句：少壮不努力，",
    "背一首《登鹳雀楼》。",
)


@dataclass(frozen=True)
class Outcome:
    """One trained model and what was measured on it. score: language -> (right, asked); sizes: bytes."""

    trained: Trained
    run: Run
    score: Mapping[str, tuple[int, int]]
    golden: Sequence[Golden]
    sizes: Mapping[str, int]


def write_report(root: Path, outcomes: Sequence[Outcome]) -> None:
    """The page and the loss curves under root/docs."""
    (root / PICTURE).parent.mkdir(parents=True, exist_ok=True)
    draw_losses(root / PICTURE, outcomes)
    page = Template(TEMPLATE.read_text("utf-8")).substitute(
        training=training_table(outcomes),
        score=score_table(outcomes),
        ten="\n\n".join(ten_table(outcomes, language) for language in text.LANGUAGES),
        golden=golden_table(outcomes),
        samples="\n\n".join(map(samples, outcomes)),
        sizes=size_table(outcomes),
    )
    (root / PAGE).write_text(page, "utf-8")


def draw_losses(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Both loss curves, each point the mean of REPORTED steps."""
    figure, axes = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    for outcome in outcomes:
        means = outcome.run.losses
        steps = [REPORTED * (n + 0.5) for n in range(len(means))]
        axes.plot(steps, means, marker=".", label=outcome.trained.recipe.name)
    axes.set(xlabel="step", ylabel="loss (nats per token)", ylim=(0, None), xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def training_table(outcomes: Sequence[Outcome]) -> str:
    header = ("model", "parameters", "steps", "tokens seen", "last loss (nats/token)", "time (s)")
    return table(header, [training_row(o) for o in outcomes])


def training_row(outcome: Outcome) -> tuple[object, ...]:
    run, model = outcome.run, outcome.trained.model
    parameters = sum(p.numel() for p in model.parameters())
    recipe = outcome.trained.recipe
    last = run.losses[-1]
    return (
        recipe.name,
        f"{parameters:,}",
        recipe.schedule.steps,
        f"{run.tokens:,}",
        f"{last:.2f}",
        f"{run.seconds:.0f}",
    )


def score_table(outcomes: Sequence[Outcome]) -> str:
    rows = [
        (o.trained.recipe.name, NAMES[language], asked, right, f"{right / asked:.0%}")
        for o in outcomes
        for language, (right, asked) in o.score.items()
    ]
    return table(("model", "language", "asked", "finished exactly", "share"), rows)


def ten_table(outcomes: Sequence[Outcome], language: str) -> str:
    """The first ten proverbs of a language and how each model went on."""
    ten = [pair for pair in text.read_pairs("proverbs") if pair.language == language][:10]
    header = (f"{NAMES[language]} proverb", *(outcome.trained.recipe.name for outcome in outcomes))
    return table(header, [(pair.prompt, *(finish(o.trained, pair) for o in outcomes)) for pair in ten])


def finish(trained: Trained, proverb: text.Pair) -> str:
    """A model's end of a proverb, marked if it is not the right one."""
    prompt = trained.recipe.ask(proverb)
    tokens, _ = trained.complete(prompt.prompt)
    said = trained.tokenizer.decode(tokens).split("\n")[0].strip()
    return said if finishes(trained, prompt) else f"{said} ✗"


def golden_table(outcomes: Sequence[Outcome]) -> str:
    header = (
        "model",
        "prompts",
        "greedy tokens",
        "smallest lead (logits)",
        "largest logit",
        "float32 off by",
    )
    return table(header, [golden_row(outcome) for outcome in outcomes])


def golden_row(outcome: Outcome) -> tuple[object, ...]:
    golden = outcome.golden
    tokens, lead = sum(len(g.greedy) for g in golden), min(g.lead for g in golden)
    largest = max(float(abs(g.logits).max()) for g in golden)
    off = max(g.rounding for g in golden)
    return outcome.trained.recipe.name, len(golden), tokens, f"{lead:.2f}", f"{largest:.1f}", f"{off:.1e}"


def samples(outcome: Outcome) -> str:
    """What a model says to fixed prompts: the first line of a base model, the answer of a chat model."""
    recipe = outcome.trained.recipe
    rows = []
    for prompt in QUESTIONS if recipe.end else BEGINNINGS:
        given = text.CHAT.format(prompt) if recipe.end else prompt
        tokens, _ = outcome.trained.complete(given, 48)
        rows.append((prompt, outcome.trained.tokenizer.decode(tokens).split("\n")[0].strip()))
    return f"`{recipe.name}`\n\n" + table(("asked" if recipe.end else "begun with", "went on"), rows)


def size_table(outcomes: Sequence[Outcome]) -> str:
    rows: list[tuple[object, ...]] = []
    for o in outcomes:
        rows += [(f"`{path}`", f"{size:,}") for path, size in o.sizes.items()]
        rows.append((f"**{o.trained.recipe.name}, together**", f"**{sum(o.sizes.values()):,}**"))
    return table(("file", "bytes"), rows)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
