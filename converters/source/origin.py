"""The original checkpoint that weights came from, however many conversions ago: how its values lay in it.

Each conversion's record hands it on, so that the way back writes what was there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.config.facts import Fact
from converters.containers.files import read_record
from converters.containers.names import RECORD
from converters.formats.folder import Folder
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


def read_origin(folder: Folder) -> Origin | None:
    """What the record in a folder says. Raises IntegrityError for a record that is no JSON object."""
    return _origin(read_record(folder).get("origin"))


def choices_written(folder: Folder, layout: Layout, names: Collection[str]) -> dict[str, Fact]:
    """Of these choices, what a conversion into the folder wrote down beside a config that does not say it.

    Raises IntegrityError for a record that is no JSON object.
    """
    target = read_record(folder).get("target") if names else None
    if not isinstance(target, dict) or target.get("layout") != layout.name:
        return {}
    choices = target["choices"] if isinstance(target.get("choices"), dict) else {}
    said = {name: choices[name] for name in names if name in choices}
    return {
        name: Fact(value, RECORD) for name, value in said.items() if _is_one_of(value, layout.choices[name])
    }


def _origin(said: Any) -> Origin | None:
    if not isinstance(said, dict) or not isinstance(said.get("choices"), dict):
        return None
    choices = {name: value for name, value in said["choices"].items() if name in ARRANGEMENT}
    return Origin(str(said.get("layout")), choices)


def _is_one_of(value: object, known: Sequence[object]) -> bool:
    """1 is not True."""
    return any(type(one) is type(value) and one == value for one in known)
