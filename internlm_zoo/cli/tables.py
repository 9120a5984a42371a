"""Tables that are drawn on a terminal and are plain aligned text in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Column:
    """fold: may break over lines where the terminal is narrow; other columns never do."""

    header: str
    justify: Literal["left", "right", "center"] = "left"
    style: str = ""
    fold: bool = False


@dataclass(frozen=True)
class Sheet:
    """rows: cells as text or rich Text. sections: numbers of the rows under which a terminal leaves a gap."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[RenderableType]]
    title: str | None = None
    sections: frozenset[int] = field(default_factory=frozenset)
    header: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(self.title, style="bold")
        yield self._table(drawn=console.is_terminal)

    def _table(self, drawn: bool) -> Table:
        table = Table(
            box=box.SIMPLE_HEAD if drawn else None,
            show_edge=False,
            show_header=self.header,
            pad_edge=False,
            padding=(0, 1 if drawn else 2, 0, 0),
            header_style="bold" if drawn else "",
        )
        for column in self.columns:
            table.add_column(
                column.header if drawn else _one_line(column.header),
                justify=column.justify,
                style=column.style,
                no_wrap=not column.fold,
                overflow="fold",
            )
        for number, row in enumerate(self.rows):
            table.add_row(*map(_cell, row), end_section=drawn and number in self.sections)
        return table


def _one_line(header: str) -> str:
    """A header broken at a hyphen or a space, whole again."""
    return header.replace("-\n", "-").replace("\n", " ")


def _cell(cell: RenderableType) -> RenderableType:
    return Text(UNKNOWN, style="dim") if cell == UNKNOWN else cell


def byte_count(size: int | None) -> str:
    """A size in decimal units, as disks and hubs count them."""
    if size is None:
        return UNKNOWN
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def number(value: int | float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}"
