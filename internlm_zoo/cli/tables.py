"""Tables that are drawn on a terminal and are plain aligned text in a pipe. Rich is imported to draw one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from converters import progress
from internlm_zoo.plain import plain

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

UNKNOWN = "unknown"
SHORT_REVISION = 20  # characters that tell one from others, `listing-...` included
_GAP = 2  # spaces between columns
_LEAST = 16  # characters that a column which gives way keeps


@dataclass(frozen=True)
class Column:
    """narrow: what becomes of it on a terminal too narrow for the table: nothing (keep), its cells
    break over lines (fold), end with an ellipsis (crop), or it is left out, and that is said (drop)."""

    header: str
    justify: Literal["left", "right", "center"] = "left"
    style: str = ""
    narrow: Literal["keep", "fold", "crop", "drop"] = "keep"


def wide(header: str) -> Column:
    return Column(header, narrow="fold")


def figure(header: str) -> Column:
    return Column(header, "right")


@dataclass(frozen=True)
class TextTable:
    """titles: columns, or headers alone. rows: cells as text or rich Text. sections: numbers of rows that a
    terminal leaves a gap under."""

    titles: Sequence[Column | str]
    rows: Sequence[Sequence[str | Text]]
    title: str | None = None
    sections: frozenset[int] = frozenset()
    header: bool = True

    @cached_property
    def columns(self) -> list[Column]:
        return [Column(one) if isinstance(one, str) else one for one in self.titles]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        if self.title:
            yield Text(plain(self.title), style="bold")
        drawn = console.is_terminal
        shown = self._fitting(options.max_width) if drawn else range(len(self.columns))
        yield self._table(shown, drawn)
        hidden = [_one_line(column.header) for place, column in enumerate(self.columns) if place not in shown]
        if hidden:
            yield Text(f"left out, the terminal is too narrow: {', '.join(hidden)}", style="dim")

    def _fitting(self, width: int) -> Sequence[int]:
        """The numbers of the columns to show: all, or as many of the droppable ones as the width allows."""
        shown = list(range(len(self.columns)))
        widths = [
            _width(column, [_cell(row[number]) for row in self.rows])
            for number, column in enumerate(self.columns)
        ]
        for number in reversed(range(len(self.columns))):
            if sum(widths[place] + _GAP for place in shown) - _GAP <= width:
                break
            if self.columns[number].narrow == "drop":
                shown.remove(number)
        return shown

    def _table(self, shown: Sequence[int], drawn: bool) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            box=box.SIMPLE_HEAD if drawn else None,
            show_edge=False,
            show_header=self.header,
            pad_edge=False,
            padding=(0, _GAP - 1 if drawn else _GAP, 0, 0),
            header_style="bold" if drawn else "",
        )
        for column in (self.columns[number] for number in shown):
            table.add_column(
                Text(column.header if drawn else _one_line(column.header)),
                justify=column.justify,
                style=column.style,
                no_wrap=column.narrow not in ("fold", "crop"),
                overflow="ellipsis" if column.narrow == "crop" else "fold",
            )
        for number, row in enumerate(self.rows):
            cells = [_cell(row[place]) for place in shown]
            table.add_row(*cells, end_section=drawn and number in self.sections)
        return table


def _width(column: Column, cells: Sequence[Text]) -> int:
    """Characters that the column needs; a column that may give way needs few."""
    from rich.cells import cell_len

    texts = [column.header, *(cell.plain for cell in cells)]
    widest = max(cell_len(line) for text in texts for line in text.split("\n"))
    return min(widest, _LEAST) if column.narrow in ("fold", "crop") else widest


def _one_line(header: str) -> str:
    """A header broken at a hyphen or a space, whole again."""
    return header.replace("-\n", "-").replace("\n", " ")


def _cell(cell: str | Text) -> Text:
    """Not markup: names of files may hold brackets. A secret is found before a cell is broken over lines."""
    from rich.text import Text

    from internlm_zoo.cli.console import plain_text

    if isinstance(cell, Text):
        return plain_text(cell)
    return Text(plain(cell), style="dim" if cell == UNKNOWN else "")


def byte_count(size: int | None) -> str:
    """A size that may be unknown, in decimal units."""
    return UNKNOWN if size is None else progress.byte_count(size)


def number(value: int | float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}"
