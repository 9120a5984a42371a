"""The check that a model reads the passages as it should, and which mistake it was if it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from internlm_zoo.loading.load import Loaded
from internlm_zoo.registry.schema import PassageLoss
from internlm_zoo.smoke.optimum import find_mistake
from internlm_zoo.smoke.passages import (
    Band,
    EncodedPassage,
    band_of,
    encode_passages,
    other_tokens,
    passage_losses,
)
from internlm_zoo.smoke.result import Check

NAME = "passages"


def passage_check(loaded: Loaded, expected: Mapping[str, PassageLoss]) -> Check:
    """expected: what was recorded of these weights, by passage; none: the limits of any sound model.

    A sound model costs one forward pass; one outside the band as many as it takes to try the mistakes.
    """
    encoded = encode_passages(loaded)
    if others := other_tokens(encoded, expected):
        what = f"its tokenizer makes other tokens of the passage '{others[0]}' than when it was recorded"
        return Check(NAME, False, f"{what}: tokenizer or chat template is of another model")
    band = band_of(encoded, expected)
    losses = passage_losses(loaded, encoded)
    excess = band.excess(losses)
    if excess <= 0:
        return Check(NAME, True, _found(band, losses))
    wrong = "it does not read as it did" if band.recorded else "it reads no text as it should"
    cause = _cause(loaded, encoded, band, band.furthest(losses)[0]) if math.isfinite(excess) else None
    return Check(NAME, False, f"{_found(band, losses)}: {wrong}", cause)


def _found(band: Band, losses: Mapping[str, float]) -> str:
    name, _ = band.furthest(losses)
    low, high = band.ranges[name]
    should = f"recorded: {(low + high) / 2:.3f}" if band.recorded else f"sound: at most {high:g}"
    return f"the passage '{name}' costs {losses[name]:.3f} nats per character ({should})"


def _cause(loaded: Loaded, encoded: Sequence[EncodedPassage], band: Band, passage: str) -> str | None:
    """passage: whose loss is told with and without the mistake. Of ranks none has the whole of what a mistake
    exchanges, and nothing can be put right in files."""
    if loaded.plan.ranks or loaded.plan.here.on_disk:
        return None
    found = find_mistake(loaded, encoded, band)
    if found is None:
        return None
    return f"{found}: without that mistake '{passage}' costs {found.losses[passage]:.3f}"
