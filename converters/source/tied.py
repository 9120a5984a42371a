"""Tied heads: the head is the embedding, stored once (`tie_word_embeddings`).

A checkpoint of that kind has a logical head like any other, whose bytes are the embedding's. Facts:
save_pretrained of transformers leaves the head out. Where one is stored all the same, from_pretrained of
transformers 4 overwrites it with the embedding, and that of transformers 5 keeps both if they differ
(modeling_utils.py, tie_weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converters.config.facts import Fact, Facts
from converters.errors import UsageError, parameter
from converters.geometry.pieces import Piece
from converters.layouts.llama import TIED
from converters.layouts.table import Layout
from converters.source.match import Stored

EMBEDDING = "embed.weight"
HEAD = "head.weight"


def is_tied(choices: Mapping[str, object]) -> bool:
    """Whether a layout's choices are those of a checkpoint that stores no head, as it is the embedding."""
    return choices.get(TIED) is True and choices.get("kind") == "causal"


def stated(layout: Layout, facts: Facts, config: Mapping[str, Any], stored: Stored, origin: str) -> Facts:
    """The facts, with what the config says of the head where there is none: what is given is then of the
    target alone."""
    tied = config.get(TIED) is True and TIED in layout.choices and not _has_head(layout, stored)
    return {**facts, TIED: Fact(True, origin)} if tied else facts


def of_storage(layout: Layout, facts: Facts, stored: Stored) -> Facts:
    """The facts by which the layout is to fit: a head that is there has its place, whatever else is said."""
    if TIED in layout.choices and _has_head(layout, stored):
        return {**facts, TIED: Fact(False, "tensors")}
    return facts


def _has_head(layout: Layout, stored: Stored) -> bool:
    names = {name for row in layout.rows if HEAD in row.holds for name in row.stored}
    return any(name in tensors for tensors in stored.values() for name in names)


def conflict(embedding: Piece, head: Piece) -> UsageError:
    """The refusal of a head that is said to be the embedding, and is not."""
    return UsageError(
        f"{TIED} is true, and {head.tensor} is not {embedding.tensor}: transformers 4 drops it, 5 keeps it",
        head.file,
        f"{parameter('given', {TIED: False})} keeps it; if the embedding is meant, save the model again with "
        "its head tied",
    )
