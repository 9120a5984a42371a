"""Which programs open what `convert` wrote, as measured: engines.json is written by `make engine-matrix`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

DATA = Path(__file__).with_name("engines.json")


def opened_by(family: str, format: str) -> str | None:
    """A sentence for the end of a conversion; None where no program was right in all that it was asked."""
    measured = json.loads(DATA.read_text(encoding="utf-8")).get(family, {})
    right = measured.get(format)
    return f"right in {_listed(right)}, as measured: docs/engines.md" if right else None


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
