"""Options that several commands share, and the keywords of the Python functions that they stand for.

A command's parameter whose type is a subclass of `Options` stands for the options which that lists; they have
the names of the keywords. `max_rate: Annotated[str, "..."]` is `--max-rate` with that help, and an int at
least 1; what has another name, or more to it, says so with typer's own Option.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer


@dataclass(frozen=True)
class Options:
    """Subclasses are frozen dataclasses whose fields are annotated as parameters of commands are."""

    def keywords(self) -> dict[str, Any]:
        """What was given, by the names of keywords: what was not is left to the defaults of the function."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def expanded(parameters: Iterable[inspect.Parameter]) -> Iterator[inspect.Parameter]:
    """Each option by itself, as typer reads it."""
    for one in parameters:
        if _is_group(one):
            yield from _options_of(one.annotation)
        else:
            yield _declared(one.replace(kind=one.KEYWORD_ONLY))


def collected(parameters: Iterable[inspect.Parameter], values: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a command, of what the parser made of its options."""
    plain = {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}
    return {
        one.name: one.annotation(**{field.name: plain[field.name] for field in fields(one.annotation)})
        if _is_group(one)
        else plain[one.name]
        for one in parameters
    }


@cache  # many commands share a group, and annotations take long to evaluate
def _options_of(group: type[Options]) -> tuple[inspect.Parameter, ...]:
    hints, keyword = get_type_hints(group, include_extras=True), inspect.Parameter.KEYWORD_ONLY
    unset = inspect.Parameter.empty
    defaults = ((one.name, unset if one.default is MISSING else one.default) for one in fields(group))
    return tuple(
        _declared(inspect.Parameter(name, keyword, default=default, annotation=hints[name]))
        for name, default in defaults
    )


def _declared(parameter: inspect.Parameter) -> inspect.Parameter:
    """A help text alone stands for the option of the parameter's name, an int then for a count."""
    kind, declared = get_args(parameter.annotation)
    if isinstance(declared, str):
        least = 1 if int in (kind, *get_args(kind)) else None
        declared = typer.Option(f"--{parameter.name.replace('_', '-')}", min=least, help=declared)
    return parameter.replace(annotation=Annotated[_enumerated(kind), declared])


def _enumerated(kind: Any) -> Any:
    """With an Enum, which every version of typer knows, in the place of a Literal."""
    if get_origin(kind) is Literal:
        return Enum("Choice", {name: name for name in get_args(kind)}, type=str)
    first, *none = get_args(kind) or [None]
    return _enumerated(first) | None if get_origin(first) is Literal and none else kind


def _is_group(parameter: inspect.Parameter) -> bool:
    return isinstance(parameter.annotation, type) and issubclass(parameter.annotation, Options)
