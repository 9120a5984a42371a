"""Small checkpoints to damage, and what `inspect` says of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import converters
from tests.converters.oracle import INTERNLM2

MODELS = Path(__file__).parents[3] / "internlm_zoo/demo/models"
TOKENIZER = MODELS / "demo-internlm2-chat/tokenizer.model"
DIMS = replace(INTERNLM2, layers=6, vocab=2048)


def with_tokenizer(folder):
    shutil.copy(TOKENIZER, folder)
    return folder


def look(folder, **options):
    """The inspection, and its findings as (what, name of the file)."""
    found = converters.inspect(folder, **options)
    return found, [(one.what, Path(one.where or "").name) for one in found.findings]


def whats(folder, **options):
    return [what for what, _ in look(folder, **options)[1]]
