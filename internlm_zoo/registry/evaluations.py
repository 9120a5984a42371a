"""Which columns of the evaluation tables a name means, and tables turned so that those come first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from internlm_zoo.errors import NotFoundError
from internlm_zoo.registry.query import Registry
from internlm_zoo.registry.schema import EvaluationRow, EvaluationTable
from internlm_zoo.registry.suggestions import folded, near

PAPER, BEST = "*", "†"


def find_columns(registry: Registry, names: Iterable[str]) -> tuple[str, ...]:
    """The column of each name, where InternLM-20B, internlm-20b and `InternLM 20B` are one.

    Raises NotFoundError for a model that no table evaluates, naming the near ones.
    """
    columns = {folded(column): column for table in registry.evaluations for column in table.models}
    return tuple(dict.fromkeys(_column(registry, name, columns) for name in names))


def own_columns(registry: Registry) -> tuple[str, ...]:
    """The columns that are models of the registry."""
    names = {folded(model.name) for model in registry.models.values()}
    columns = [column for table in registry.evaluations for column in table.models]
    return tuple(dict.fromkeys(column for column in columns if folded(column) in names))


def with_columns_first(
    tables: Iterable[EvaluationTable], columns: Sequence[str]
) -> tuple[EvaluationTable, ...]:
    """The tables that have any of the columns (all tables if there are none), those columns in front."""
    turned = []
    for table in tables:
        asked = [column for column in columns if column in table.models]
        if asked or not columns:
            models = tuple(dict.fromkeys([*asked, *table.models]))
            turned.append(table.model_copy(update={"models": models}))
    return tuple(turned)


def mark_of(row: EvaluationRow, model: str) -> str:
    """What stands behind a score; `footnotes` explain it."""
    return PAPER * (model in row.from_original_paper) + BEST * (model in row.best_in_class)


def footnotes(rows: Sequence[EvaluationRow]) -> Iterator[str]:
    if any(row.best_in_class for row in rows):
        yield f"{BEST} best of the 13B to 33B models"
    if any(row.from_original_paper for row in rows):
        yield f"{PAPER} from the original paper"


def _column(registry: Registry, name: str, columns: dict[str, str]) -> str:
    known = registry.models.get(name)
    spellings = [name] if known is None else [name, known.display_name]
    for spelling in spellings:
        if folded(spelling) in columns:
            return columns[folded(spelling)]
    guesses = near(name, columns.values(), 3) or sorted(columns.values())
    raise NotFoundError(f"no table evaluates '{name}'", fix=f"evaluated: {', '.join(guesses)}")
