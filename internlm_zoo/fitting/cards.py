"""Common cards, and what of their memory a model may take: cards.json says where each size was read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DATA = Path(__file__).with_name("cards.json")
RESERVE = 1 << 30
"""Bytes of a card that are left alone: CUDA's context and kernels take 0.73 GB (docs/fit.md), workspaces of
libraries some more, and torch's allocator leaves gaps."""


@dataclass(frozen=True)
class Card:
    """memory: bytes that torch finds on it."""

    name: str
    memory: int

    @property
    def room(self) -> int:
        """Bytes for a model and what it computes."""
        return max(0, self.memory - RESERVE)


@cache
def common_cards() -> tuple[Card, ...]:
    """From the smallest to the largest."""
    stated = json.loads(DATA.read_text(encoding="utf-8"))["cards"]
    cards = [Card(one["name"], int(one["gib"] * (1 << 30))) for one in stated]
    return tuple(sorted(cards, key=lambda card: card.memory))
