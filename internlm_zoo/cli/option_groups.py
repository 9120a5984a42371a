"""Options that several commands share, and the keywords of the Python functions that they stand for.

A command's parameter whose type is a subclass of `Options` stands for the options which that lists; they have
the names of the keywords.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from typing import Any, get_type_hints


@dataclass(frozen=True)
class Options:
    """Subclasses are frozen dataclasses whose fields are annotated with typer's options."""

    def keywords(self) -> dict[str, Any]:
        """What was given, by the names of keywords: what was not is left to the defaults of the function."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value.value if isinstance(value, Enum) else value
            for name, value in said.items()
            if value is not None
        }


def expanded(parameters: Iterable[inspect.Parameter]) -> Iterator[inspect.Parameter]:
    """Each option by itself."""
    for one in parameters:
        if not _is_group(one):
            yield one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        hints = get_type_hints(one.annotation, include_extras=True)
        for field in fields(one.annotation):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            yield inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
            )


def collected(parameters: Iterable[inspect.Parameter], said: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a command, of what the parser made of its options."""
    return {
        one.name: one.annotation(**{field.name: said[field.name] for field in fields(one.annotation)})
        if _is_group(one)
        else said[one.name]
        for one in parameters
    }


def _is_group(parameter: inspect.Parameter) -> bool:
    return isinstance(parameter.annotation, type) and issubclass(parameter.annotation, Options)
