"""Draws evaluation tables: a panel per benchmark, a bar per model, the models that are asked for in colour.

Needs matplotlib, the `[chart]` extra.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from internlm_zoo.errors import UnsupportedError, UsageError
from internlm_zoo.plain import plain
from internlm_zoo.registry.evaluations import footnotes, mark_of
from internlm_zoo.registry.schema import EvaluationRow, EvaluationTable

_COLUMNS = 4
_PANEL = (2.55, 0.235)  # inches: width of a panel, height of one bar
_HEADING, _GAP = 0.42, 0.58  # inches: above a table's panels, between rows of panels (title included)
_NAMES = 1.35  # inches: for the model names, left of the first panel
_ASKED, _OTHER = ("#0b5fa5", "#3b97d3", "#7cc0e8"), "#c9ced6"
_FORMATS = (".png", ".svg")


def draw(tables: Sequence[EvaluationTable], path: Path, asked: Sequence[str]) -> None:
    """Write the picture, png or svg by the name's ending. asked: columns drawn in colour.

    Raises UsageError for another ending, UnsupportedError without matplotlib.
    """
    figure_class, context = matplotlib_for(path)
    heights = [_HEADING + math.ceil(len(table.rows) / _COLUMNS) * _row_height(table) for table in tables]
    width = _NAMES + _COLUMNS * _PANEL[0]
    with context({"text.parse_math": False}):  # a name with $ in it is no formula
        figure = figure_class(figsize=(width, sum(heights)), facecolor="white")
        top = sum(heights)
        for table, height in zip(tables, heights, strict=True):
            _draw_table(figure, table, asked, top)
            top -= height
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)


def matplotlib_for(path: Path) -> tuple[Any, Any]:
    """What a figure is made by, and under which settings. Raises what `draw` raises."""
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"a chart is a {' or '.join(_FORMATS)} file", path)
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnsupportedError("a chart needs matplotlib", fix="pip install 'internlm-zoo[chart]'") from error
    return Figure, rc_context


def _row_height(table: EvaluationTable) -> float:
    return len(table.models) * _PANEL[1] + _GAP


def _draw_table(figure: Any, table: EvaluationTable, asked: Sequence[str], top: float) -> None:
    """top: inches from the bottom of the figure to the top of this table."""
    width, height = figure.get_size_inches()
    y = (top - 0.28) / height
    figure.text(0.16 / width, y, plain(table.section), size=13, weight="bold", va="center")
    notes = " ".join(f"{note}." for note in footnotes(table.rows))
    about = plain(f"{table.source}; higher is better. {notes}")
    figure.text(1.75 / width, y, about, size=9, color="#555", va="center")
    for number, row in enumerate(table.rows):
        line, column = divmod(number, _COLUMNS)
        bottom = top - _HEADING - (line + 1) * _row_height(table) + 0.2
        left = _NAMES + column * _PANEL[0]
        box = (left / width, bottom / height, (_PANEL[0] - 0.5) / width, (_row_height(table) - _GAP) / height)
        _draw_panel(figure.add_axes(box), table, row, asked, names=column == 0)


def _draw_panel(
    axes: Any, table: EvaluationTable, row: EvaluationRow, asked: Sequence[str], names: bool
) -> None:
    scores = [row.scores[model] for model in table.models]
    colours = [_colour(model, table, asked) for model in table.models]
    bars = axes.barh(range(len(scores)), scores, height=0.78, color=colours)
    for model, bar, score in zip(table.models, bars, scores, strict=True):
        weight = "bold" if model in asked else "normal"
        middle = bar.get_y() + bar.get_height() / 2
        text = f"{score:.{table.decimals}f}{mark_of(row, model)}"
        axes.text(score + 1.5, middle, text, va="center", size=7.5, weight=weight, color="#222")
    axes.set_xlim(0, 100)
    axes.invert_yaxis()
    axes.set_yticks(range(len(scores)), [plain(name) if names else "" for name in table.models], size=8)
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() in asked else "normal")
    axes.set_title(plain(row.benchmark), size=9.5, weight="bold", loc="left", pad=3)
    axes.set_title(plain(row.category or ""), size=7.5, color="#777", loc="right", pad=3)
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color("#888")


def _colour(model: str, table: EvaluationTable, asked: Sequence[str]) -> str:
    here = [column for column in table.models if column in asked]
    return _ASKED[here.index(model) % len(_ASKED)] if model in here else _OTHER
