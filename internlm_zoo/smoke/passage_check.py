"""The check that a model reads the passages as it should, and which mistake it was if it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from internlm_zoo.loading.load import Loaded
from internlm_zoo.registry.schema import PassageLoss
from internlm_zoo.smoke.config_causes import config_cause
from internlm_zoo.smoke.optimum import GAIN, UNKNOWN, Attempt, find_gain, find_mistake
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
        return _within(loaded, encoded, band, losses)
    wrong = "it does not read as it did" if band.recorded else "it reads no text as it should"
    cause = _cause(loaded, encoded, band, band.furthest(losses)[0]) if math.isfinite(excess) else None
    return Check(NAME, False, f"{_found(band, losses)}: {wrong}", cause)


def _found(band: Band, losses: Mapping[str, float]) -> str:
    name, _ = band.furthest(losses)
    low, high = band.ranges[name]
    should = f"recorded: {(low + high) / 2:.3f}" if band.recorded else f"sound: at most {high:g}"
    return f"the passage '{name}' costs {losses[name]:.3f} nats per character ({should})"


def _within(
    loaded: Loaded, encoded: Sequence[EncodedPassage], band: Band, losses: Mapping[str, float]
) -> Check:
    """Limits of any sound model leave room for mistakes; what was recorded leaves none."""
    searched = not band.recorded and not _is_fixed(loaded) and loaded.plan.parameters <= UNKNOWN
    cause = _gained(loaded, encoded, band, losses) if searched else None
    if cause is None:
        return Check(NAME, True, _found(band, losses))
    return Check(NAME, False, f"{_found(band, losses)}, but a mistake was made", cause)


def _gained(
    loaded: Loaded, encoded: Sequence[EncodedPassage], band: Band, losses: Mapping[str, float]
) -> str | None:
    """The mistake without which it reads better than a sound model could."""
    found = find_gain(loaded, encoded, band, losses)
    if found:
        return _named(found, max(losses, key=lambda name: losses[name] - found.losses[name]))
    cause = config_cause(loaded, lambda other: band.gain(losses, passage_losses(other, encoded)) >= GAIN)
    return f"{cause} it reads better: the config is wrong" if cause else None


def _cause(loaded: Loaded, encoded: Sequence[EncodedPassage], band: Band, passage: str) -> str | None:
    """passage: whose loss is told with and without the mistake."""
    if _is_fixed(loaded):
        return None
    found = find_mistake(loaded, encoded, band)
    if found:
        return _named(found, passage)
    if loaded.plan.parameters > UNKNOWN:  # each try loads the model again
        return None
    cause = config_cause(loaded, lambda other: band.excess(passage_losses(other, encoded)) <= 0)
    return f"{cause} it reads as it should: the config is wrong" if cause else None


def _is_fixed(loaded: Loaded) -> bool:
    """Whether nothing can be put right in it: of ranks none has the whole of what a mistake exchanges, and
    what is read from files stays as it is."""
    return bool(loaded.plan.ranks or loaded.plan.here.on_disk)


def _named(found: Attempt, passage: str) -> str:
    return f"{found}: without that mistake '{passage}' costs {found.losses[passage]:.3f}"
