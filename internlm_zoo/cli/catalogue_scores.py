"""How the evaluation tables look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from internlm_zoo.cli.tables import Column, TextTable
from internlm_zoo.plain import plain
from internlm_zoo.registry.schema import EvaluationRow, EvaluationTable

_PAPER, _BEST = "*", "†"


def evaluation_tables(tables: Sequence[EvaluationTable], asked: Sequence[str]) -> RenderableType:
    parts: list[RenderableType] = []
    for table in tables:
        parts += [_Scores(table, asked), ""]
    return Group(*parts, Text("\n".join(_footnotes(tables)), style="dim"))


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
        columns = [Column("Category")] if in_pipe else []
        columns += [Column("Benchmark"), *(self._column(model) for model in table.models)]
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
        best, paper = model in row.best_in_class, model in row.from_original_paper
        mark = (_PAPER if paper else "") + (_BEST if best else "")
        text = f"{row.scores[model]:.{self._table.decimals}f}{mark or ' ' * self._marked}"
        return Text(text, style="bold" if best else "")


def _footnotes(tables: Sequence[EvaluationTable]) -> Iterator[str]:
    rows = [row for table in tables for row in table.rows]
    if any(row.best_in_class for row in rows):
        yield f"{_BEST} best of the 13B to 33B models"
    if any(row.from_original_paper for row in rows):
        yield f"{_PAPER} from the original paper"
