"""How well a model reads a few texts that every model knows: nats per character, by one forward pass.

The texts are `passages.yaml`. What a loss has to be is a *band*: what was measured of these very weights (the
registry has it, or an overlay that was recorded), else what every sound model stays below. A loss outside is
a failure, and then a known mistake is looked for that explains it (`optimum.py`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from internlm_zoo.loading.generate import Message, encode, encode_turns, padded_logits, tokenizer_of
from internlm_zoo.loading.load import Loaded
from internlm_zoo.registry import document
from internlm_zoo.registry.schema import PassageLoss

FILE = Path(__file__).with_name("passages.yaml")
# Of a recorded loss. Two dtypes differ by a tenth of this, and a mistake that matters by ten times as much.
TOLERANCE, SHARE = 0.01, 0.01


@dataclass(frozen=True)
class Passage:
    """text: or else the turns of a conversation, of which the model's chat template makes one. sound: nats
    per character that a sound model stays below in at least one passage."""

    name: str
    language: str
    source: str
    sound: float
    text: str | None = None
    turns: tuple[Message, ...] = ()


@dataclass(frozen=True)
class EncodedPassage:
    """A passage as a model's tokenizer reads it. characters: of the text, template and all."""

    passage: Passage
    ids: tuple[int, ...]
    characters: int

    @property
    def tokens(self) -> str:
        """The sha256 of the token ids: of another tokenizer or template it is another."""
        return hashlib.sha256(json.dumps(self.ids).encode()).hexdigest()


@dataclass(frozen=True)
class Band:
    """What losses have to be, in nats per character. ranges: lowest and highest, by passage. recorded:
    whether they were measured of this model, and every passage has to be within; else one is enough, for
    there are models that know one language."""

    ranges: Mapping[str, tuple[float, float]]
    recorded: bool

    def excess(self, losses: Mapping[str, float]) -> float:
        """How far outside the losses are: 0 or less within, infinite for what is no number."""
        return self.furthest(losses)[1]

    def gain(self, before: Mapping[str, float], after: Mapping[str, float]) -> float:
        """By how much the passages that are within afterwards cost less then, on average; what a model does
        not know by then says nothing."""
        known = [name for name, loss in after.items() if self._gap(name, loss) <= 0]
        return sum(before[name] - after[name] for name in known) / len(known) if known else -math.inf

    def furthest(self, losses: Mapping[str, float]) -> tuple[str, float]:
        """The passage that decides, and how far outside it is."""
        gaps = {name: self._gap(name, loss) for name, loss in losses.items() if name in self.ranges}
        choose = max if self.recorded else min
        name = choose(gaps, key=gaps.__getitem__)
        return name, gaps[name]

    def _gap(self, name: str, loss: float) -> float:
        low, high = self.ranges[name]
        return max(low - loss, loss - high) if math.isfinite(loss) else math.inf


@cache
def passages() -> tuple[Passage, ...]:
    """All of them, in the order of the file."""
    rows = document.data(document.read(FILE, "file of passages", "names and texts")).items()
    return tuple(Passage(name, **{**row, "turns": tuple(row.get("turns", ()))}) for name, row in rows)


def encode_passages(loaded: Loaded) -> list[EncodedPassage]:
    """Those that the model can be read: the conversation only to one that takes turns.

    Raises NotFoundError without a tokenizer, UnsupportedError for one that is not of this model.
    """
    turns = loaded.plan.directory.takes_turns and tokenizer_of(loaded).has_template
    return [_encode(loaded, passage) for passage in passages() if turns or passage.text is not None]


def _encode(loaded: Loaded, passage: Passage) -> EncodedPassage:
    if passage.text is not None:
        return EncodedPassage(passage, tuple(encode(loaded, passage.text)), len(passage.text))
    rendered = tokenizer_of(loaded).render(passage.turns, answer=False)
    return EncodedPassage(passage, tuple(encode_turns(loaded, passage.turns, answer=False)), len(rendered))


def passage_losses(loaded: Loaded, encoded: Sequence[EncodedPassage]) -> dict[str, float]:
    """Nats per character by passage: what all tokens but the first cost, in one forward pass."""
    logits = padded_logits(loaded, [one.ids for one in encoded])
    pairs = zip(encoded, logits, strict=True)
    return {one.passage.name: _nats(rows, one.ids) / one.characters for one, rows in pairs}


def _nats(logits: object, ids: Sequence[int]) -> float:
    """logits: [at least len(ids), vocab]."""
    import torch

    assert isinstance(logits, torch.Tensor)
    said = logits[: len(ids) - 1].float()
    following = torch.tensor(ids[1:], device=said.device)
    return float(torch.nn.functional.cross_entropy(said, following, reduction="sum"))


def band_of(encoded: Sequence[EncodedPassage], expected: Mapping[str, PassageLoss]) -> Band:
    """What was recorded of the model; where nothing was, the limits of any sound one."""
    recorded = {name: _around(loss.nats) for name, loss in expected.items() if _is_encoded(name, encoded)}
    if recorded:
        return Band(recorded, recorded=True)
    return Band({one.passage.name: (0.0, one.passage.sound) for one in encoded}, recorded=False)


def _around(nats: float) -> tuple[float, float]:
    width = TOLERANCE + SHARE * nats
    return nats - width, nats + width


def _is_encoded(name: str, encoded: Sequence[EncodedPassage]) -> bool:
    return any(one.passage.name == name for one in encoded)


def other_tokens(encoded: Sequence[EncodedPassage], expected: Mapping[str, PassageLoss]) -> list[str]:
    """Passages of which tokenizer or chat template make other tokens than when they were recorded."""
    known = {name: loss.tokens for name, loss in expected.items()}
    pairs = ((one.passage.name, one.tokens) for one in encoded)
    return [name for name, tokens in pairs if known.get(name, tokens) != tokens]
