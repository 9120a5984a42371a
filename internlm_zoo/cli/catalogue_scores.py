"""How the evaluation tables look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from internlm_zoo.cli.tables import Column, TextTable
from internlm_zoo.plain import plain
from internlm_zoo.registry.evaluations import footnotes, mark_of
from internlm_zoo.registry.schema import EvaluationRow, EvaluationTable


def evaluation_tables(tables: Sequence[EvaluationTable], asked: Sequence[str]) -> RenderableType:
    parts: list[RenderableType] = []
    rows = [row for table in tables for row in table.rows]
    for table in tables:
        parts += [_Scores(table, asked), ""]
    return Group(*parts, Text("\n".join(footnotes(rows)), style="dim"))


class _Scores:
    """One evaluation table: on a terminal with a heading per category, in a pipe with a column for it."""

    def __init__(self, table: EvaluationTable, asked: Sequence[str]) -> None:
        self._table, self._asked = table, asked
        self._marked = any(row.best_in_class or row.from_original_paper for row in table.rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._table
        title = f"{table.section} · {table.source} · {table.id}"
        categories = any(row.category for row in table.rows)
        in_pipe = categories and not console.is_terminal
        titles = ("Category", "Benchmark") if in_pipe else ("Benchmark",)
        columns = (*titles, *map(self._column, table.models))
        yield TextTable(columns, list(self._rows(in_pipe, categories)), title=title)

    def _column(self, model: str) -> Column:
        head, dash, tail = plain(model).rpartition("-")
        return Column(f"{head}{dash}\n{tail}", "right", "cyan" if model in self._asked else "", narrow="drop")

    def _rows(self, in_pipe: bool, categories: bool) -> Iterator[list[str | Text]]:
        heading = None
        for row in self._table.rows:
            if categories and not in_pipe and row.category != heading:
                heading = row.category
                yield [Text(plain(heading or ""), style="bold"), *[""] * len(self._table.models)]
            name = f"  {row.benchmark}" if categories and not in_pipe else row.benchmark
            scores: list[str | Text] = [self._score(row, model) for model in self._table.models]
            yield [row.category or "", name, *scores] if in_pipe else [name, *scores]

    def _score(self, row: EvaluationRow, model: str) -> Text:
        mark = mark_of(row, model) or " " * self._marked
        text = f"{row.scores[model]:.{self._table.decimals}f}{mark}"
        return Text(text, style="bold" if model in row.best_in_class else "")
