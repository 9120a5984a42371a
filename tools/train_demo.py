"""Trains the demo models, checks what they learnt, and writes their files, golden data and report.

    python tools/train_demo.py [--steps N] [--root DIR]

Ten to twenty minutes on two cores. Exits with 1 and writes no report if a model finishes too few proverbs.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from demo_training import files, text, tokenizer
from demo_training.golden import ENOUGH, golden_beyond, golden_data, held_in_score
from demo_training.model import initialise
from demo_training.recipes import RECIPES, Recipe
from demo_training.report import Outcome, write_report
from demo_training.training import Run, train
from torch import nn

# Golden logits then agree to 1e-5 whoever computes them, and the models still predict text.
LOGIT_SCALE = 0.75


def main() -> None:
    arguments = parse()
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    outcomes = [make(recipe, arguments.root) for recipe in shortened(arguments.steps)]
    write_report(arguments.root, outcomes)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--steps", type=int, help="train both models this long instead of as their recipes say"
    )
    parser.add_argument(
        "--root", type=Path, default=Path(__file__).parents[1], help="repository to write into"
    )
    return parser.parse_args()


def shortened(steps: int | None) -> list[Recipe]:
    return [replace(r, schedule=replace(r.schedule, steps=steps or r.schedule.steps)) for r in RECIPES]


def make(recipe: Recipe, root: Path) -> Outcome:
    """Train one model and write its files; all that is measured is measured on the files as read back."""
    print(recipe.name, flush=True)
    folder = root / files.MODELS / recipe.name
    run = write_trained(recipe, folder)
    trained = files.read_model(folder, recipe)
    score = held_in_score(trained)
    print(f"  held-in proverbs finished: {score}", flush=True)
    if any(right < ENOUGH * asked for right, asked in score.values()):
        raise SystemExit(f"{recipe.name} finishes too few of its proverbs: {score}; train it longer")
    golden = golden_data(trained)
    print(f"  smallest lead of a golden token: {min(g.lead for g in golden):.3f}", flush=True)
    files.write_golden(root / files.GOLDEN, folder, golden, golden_beyond(trained))
    return Outcome(trained, run, score, golden, files.committed(root, recipe.name))


def write_trained(recipe: Recipe, folder: Path) -> Run:
    """A tokenizer and a model trained from nothing, as the files of an original checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = tokenizer.train(text.tokenizer_lines(), recipe.shape.vocab, recipe.specials)
    (folder / files.TOKENIZER).write_bytes(pieces)
    model = recipe.build(recipe.shape)
    initialise(model, recipe.schedule.seed)
    words = tokenizer.Tokenizer.load(folder / files.TOKENIZER, recipe.specials)
    run = train(model, words, recipe.epoch, recipe.schedule)
    lower_logits(model)
    files.write_model(folder, model, recipe.model_config())
    return run


def lower_logits(model: nn.Module) -> None:
    """By the last norm, from its bfloat16 values: the same greedy choices, less rounded off golden logits."""
    with torch.no_grad():
        model.norm.weight.copy_(model.norm.weight.bfloat16().float() * LOGIT_SCALE)


if __name__ == "__main__":
    main()
