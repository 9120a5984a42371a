"""The original checkpoint that weights came from, however many conversions ago: how its values lay in it.

Each conversion's record hands it on, so that the way back writes what was there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.config.facts import Fact
from converters.containers.names import RECORD
from converters.layouts.table import Layout

# Choices of a layout that say where values lie, and nothing of what they are.
ARRANGEMENT = frozenset({"mlp_order", "qkv", "adapt_hf", "embed_split_hidden"})


@dataclass(frozen=True)
class Origin:
    """layout: its name. choices: of ARRANGEMENT, as far as the layout has them."""

    layout: str
    choices: Mapping[str, object]

    @classmethod
    def of(cls, layout: Layout, choices: Mapping[str, object]) -> Origin | None:
        """None for a layout that leaves no room for how values lie."""
        if not ARRANGEMENT & layout.choices.keys():
            return None
        return cls(layout.name, {name: value for name, value in choices.items() if name in ARRANGEMENT})

    def choices_for(self, layout: Layout) -> Mapping[str, object]:
        """What it says of a target of this layout."""
        if layout.name != self.layout:
            return {}
        return {
            name: self.choices[name]
            for name, values in layout.choices.items()
            if name in self.choices and _is_one_of(self.choices[name], values)
        }


def recorded_origin(record: Mapping[str, Any]) -> Origin | None:
    """What the record of a conversion says."""
    stated = record.get("origin")
    if not isinstance(stated, dict) or not isinstance(stated.get("choices"), dict):
        return None
    choices = {name: value for name, value in stated["choices"].items() if name in ARRANGEMENT}
    return Origin(str(stated.get("layout")), choices)


def choices_written(
    record: Callable[[], Mapping[str, Any]], layout: Layout, names: Collection[str]
) -> dict[str, Fact]:
    """Of these choices, what a conversion's record says beside a config that does not say it."""
    target = record().get("target") if names else None
    if not isinstance(target, dict) or target.get("layout") != layout.name:
        return {}
    choices = target["choices"] if isinstance(target.get("choices"), dict) else {}
    return {
        name: Fact(choices[name], RECORD)
        for name in names
        if name in choices and _is_one_of(choices[name], layout.choices[name])
    }


def _is_one_of(value: object, known: Sequence[object]) -> bool:
    """1 is not True."""
    return any(type(one) is type(value) and one == value for one in known)
