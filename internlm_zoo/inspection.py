"""`inspect` with what the registry knows of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import converters
from converters import Inspection
from internlm_zoo.conversion import known_facts
from internlm_zoo.progress import Progress
from internlm_zoo.registry import load_registry
from internlm_zoo.settings import Settings


def inspect(
    target: str | Path,
    *,
    settings: Settings,
    deep: bool = False,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """What a directory holds and what is wrong with it.

    known_as: the registry model that it holds. Raises NotFoundError if it holds no checkpoint.
    """
    model = load_registry(settings).model(known_as) if known_as else None
    return converters.inspect(
        target, deep=deep, given=given, known=known_facts(model), workers=workers, progress=progress
    )
