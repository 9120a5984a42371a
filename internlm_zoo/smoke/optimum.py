"""Which known mistake explains what a model loses: the one without which it reads as it should.

Needs no reference: a sound model is at an optimum, from which every step of the table leads away, and a
faulty one comes back to it by one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from internlm_zoo.loading.load import Loaded
from internlm_zoo.smoke.corrections import corrected, some_layers
from internlm_zoo.smoke.mistakes import MISTAKES, Mistake
from internlm_zoo.smoke.passages import Band, EncodedPassage, passage_losses

# Of the passages, as many as are read first; only what they do not rule out is read all of them.
PROBES = 1
# Parameters up to which mistakes in single layers are looked for, too: that is a hundred forward passes.
EACH_LAYER = 100_000_000
# Up to which a model is searched that reads well enough for one of which nothing is known.
UNKNOWN = 1_000_000_000
# Nats per character by which no sound model reads better without a mistake: of the demo models' texts 0.024
# at most. A mistake that costs a third of a nat per token costs about as much as this.
GAIN = 0.08
# Of the passages, in two languages, that are read first then.
_LANGUAGES = ("English", "Chinese")


@dataclass(frozen=True)
class Attempt:
    """A mistake put right. layers: in which; all of them, or one, or two that are exchanged. losses: nats
    per character then."""

    mistake: Mistake
    layers: tuple[int, ...]
    every: bool
    losses: Mapping[str, float]

    def __str__(self) -> str:
        if self.every:
            return self.mistake.what
        if len(self.layers) == 1:
            return f"{self.mistake.what} (in layer {self.layers[0]})"
        return f"{self.mistake.what} (layers {' and '.join(map(str, self.layers))} with each other)"


def find_mistake(loaded: Loaded, encoded: Sequence[EncodedPassage], band: Band) -> Attempt | None:
    """The one that brings the losses back into the band, of several the one that brings them furthest. In all
    layers first; in single ones only where that explains nothing, and in small models."""
    found = _best(attempts(loaded, encoded, band=band), band)
    if found is None and loaded.plan.parameters <= EACH_LAYER:
        found = _best(attempts(loaded, encoded, band=band, every=False), band)
    return found


def find_gain(
    loaded: Loaded, encoded: Sequence[EncodedPassage], band: Band, losses: Mapping[str, float]
) -> Attempt | None:
    """Of a model that reads within the limits of any sound one, the mistake without which it reads better
    than it could if it had not been made."""
    found = _gaining(loaded, encoded, band, losses, every=True)
    if found is None and loaded.plan.parameters <= EACH_LAYER:
        found = _gaining(loaded, encoded, band, losses, every=False)
    return found


def _gaining(
    loaded: Loaded,
    encoded: Sequence[EncodedPassage],
    band: Band,
    losses: Mapping[str, float],
    *,
    every: bool,
) -> Attempt | None:
    by_language = {one.passage.language: one for one in reversed(encoded)}
    probes = [by_language[one] for one in _LANGUAGES if one in by_language]

    def read() -> Mapping[str, float] | None:
        if band.gain(losses, passage_losses(loaded, probes)) < GAIN:
            return None
        found = passage_losses(loaded, encoded)
        return found if band.gain(losses, found) >= GAIN else None

    tried = _attempts(loaded, read, every=every)
    return max(tried, key=lambda one: band.gain(losses, one.losses), default=None)


def _best(found: Iterator[Attempt], band: Band) -> Attempt | None:
    if band.recorded:  # narrow: what comes back into it is the cause
        return next(found, None)
    return min(found, key=lambda one: band.excess(one.losses), default=None)


def attempts(
    loaded: Loaded, encoded: Sequence[EncodedPassage], *, band: Band | None = None, every: bool = True
) -> Iterator[Attempt]:
    """Every mistake that the model's shapes allow, put right and taken back. band: only those that bring the
    losses into it. every: in all layers, or else in one, or in two that change places."""
    return _attempts(loaded, partial(_losses, loaded, encoded, band), every=every)


def _attempts(
    loaded: Loaded, read: Callable[[], Mapping[str, float] | None], *, every: bool
) -> Iterator[Attempt]:
    """read: the losses of the model as it is then, None where they say that it was not this mistake."""
    count = loaded.model.config.num_hidden_layers
    for mistake in MISTAKES:
        for layers in [tuple(range(count))] if every else some_layers(mistake.correction, count):
            with corrected(loaded.model, mistake.correction, layers) as applied:
                losses = read() if applied else None
            if losses is not None:
                yield Attempt(mistake, layers, every, losses)


def _losses(
    loaded: Loaded, encoded: Sequence[EncodedPassage], band: Band | None
) -> Mapping[str, float] | None:
    if band is None:
        return passage_losses(loaded, encoded)
    known = [one for one in encoded if one.passage.name in band.ranges]
    if band.excess(passage_losses(loaded, known[:PROBES])) > 0:
        return None
    losses = passage_losses(loaded, encoded)
    return losses if band.excess(losses) <= 0 else None
