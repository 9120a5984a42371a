"""Which programs open what `convert` wrote, as measured: engines.json is written by `make engine-matrix`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

DATA = Path(__file__).with_name("engines.json")
WITHOUT_CODE = "llama"


def opened_by(family: str, format: str) -> str | None:
    """A sentence for the end of a conversion; None where nothing was measured."""
    measured = json.loads(DATA.read_text(encoding="utf-8")).get(family, {})
    right, instead = measured.get(format), measured.get(WITHOUT_CODE)
    if right:
        return f"right in {_listed(right)}, as measured: docs/engines.md"
    if right is None or not instead:
        return None
    return (
        f"no program that was tried opens the {format} format of {family} without code of its own; "
        f"--to {WITHOUT_CODE} is right in {_listed(instead)}: docs/engines.md"
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
