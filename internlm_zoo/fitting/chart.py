"""Draws what lies where: a bar for each pipeline stage, of what each of its ranks holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from internlm_zoo.fitting.fit import Fit
from internlm_zoo.plain import plain
from internlm_zoo.registry.chart import matplotlib_for

PARTS: Mapping[str, tuple[str, str]] = {
    "weights": ("weights", "#0b5fa5"),
    "cache": ("keys and values", "#e08214"),
    "working": ("activations, then logits", "#7fbf7b"),
}
"""Field of RankMemory -> what a person reads, and its colour."""
_GB = 1e9
_APART = 0.04  # of the width, between two names


def draw_fit(fit: Fit, path: Path) -> None:
    """Write the picture, png or svg by the name's ending, with a line where each card ends.

    Raises UsageError for another ending, UnsupportedError without matplotlib.
    """
    figure_class, context = matplotlib_for(path)
    names = [f"stage {one.stage}" if fit.pp > 1 else "each rank" for one in fit.stages]
    apart = _apart(fit)
    height = 1.6 + 0.45 * (len(names) + len(apart))
    with context({"text.parse_math": False}):  # a name with $ in it is no formula
        figure = figure_class(figsize=(8, height), facecolor="white", layout="constrained")
        axes = figure.subplots()
        left = [0.0] * len(names)
        for field, (label, colour) in PARTS.items():
            sizes = [getattr(one, field) / _GB for one in fit.stages]
            axes.barh(names, sizes, left=left, label=label, color=colour)
            left = [start + size for start, size in zip(left, sizes, strict=True)]
        axes.barh([*apart], [*apart.values()], color=PARTS["weights"][1], alpha=0.6)
        _draw_cards(axes, fit, 2 * max(left))
        axes.invert_yaxis()
        shape = f"{fit.batch} x {fit.context:,} tokens, {fit.dtype}"
        axes.set_xlabel(
            f"GB on each of {fit.tp * fit.pp} GPUs (tp {fit.tp} x pp {fit.pp}), {shape}", fontsize=8
        )
        figure.suptitle(plain(fit.model), fontsize=10)
        figure.legend(fontsize=7, ncols=len(PARTS), loc="outside lower center")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)


def _apart(fit: Fit) -> dict[str, float]:
    """Weights in GB by where they lie, of a model that the one GPU asked about is too small for."""
    found = fit.verdicts[0].offload if len(fit.verdicts) == 1 else None
    if found is None:
        return {}
    sizes = {"on the GPU": found.gpu, "on the host": found.host, "on disk": found.disk}
    return {where: size / _GB for where, size in sizes.items()}


def _draw_cards(axes: Any, fit: Fit, limit: float) -> None:
    """A line where the room of each card ends, with names where there is place for them. limit: in GB."""
    named = -math.inf
    for verdict in fit.verdicts:
        end = verdict.room / _GB
        if end > limit:
            continue
        axes.axvline(end, color="#57606a", linewidth=0.8, linestyle="--")
        if end - named > _APART * limit:
            axes.text(
                end, 1.02, plain(verdict.card), rotation=35, fontsize=6, transform=axes.get_xaxis_transform()
            )
            named = end
