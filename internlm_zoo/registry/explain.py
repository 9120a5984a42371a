"""Turns what pydantic found into sentences a person can act on, and finds names that lead nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from yaml.nodes import Node

from converters.errors import LINES
from internlm_zoo.registry.document import Finding, Problem, Step, place
from internlm_zoo.registry.schema import EvaluationTable, Family, Model, RegistryFile
from internlm_zoo.registry.suggestions import near

# What pydantic says, and what is meant.
_WORDS = (
    ("Input should", "it should"),
    ("Tuple should", "it should"),
    ("tuple", "list"),
    ("dictionary", "mapping"),
    (" after validation", ""),
)


def explain(error: ValidationError, tree: Node) -> list[Problem]:
    """One problem per finding, of as many as are told, each with the line it is about."""
    schema = RegistryFile.model_json_schema()
    return [
        Problem(place(tree, found["loc"]), sentence(found, schema))
        for found in error.errors(include_url=False)[:LINES]
    ]


def sentence(found: ErrorDetails, schema: dict[str, Any] | None = None) -> str:
    """What is wrong, and what is allowed. schema: to name the fields there are where one is unknown."""
    path, kind = found["loc"], found["type"]
    field = dotted(path)
    if kind == "missing":
        return f"{field} is missing"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return _unknown_field(path, schema)
    if kind == "literal_error":
        allowed = str(found["ctx"]["expected"]).replace("'", "").replace(" or ", ", ")
        return f"{field} is {found['input']!r}; allowed: {allowed}"
    if kind == "value_error":
        return f"{field}: {found['ctx']['error']}"
    reason = found["msg"]
    for theirs, ours in _WORDS:
        reason = reason.replace(theirs, ours)
    return f"{field} is {found['input']!r}; {reason}"


def dangling(file: RegistryFile) -> Iterator[Finding]:
    """Names that nothing in the registry answers to, and entries that say the same thing twice."""
    for index, hub in enumerate(file.sources):
        if hub not in file.hubs:
            yield ("sources", index), _no_such("hub", hub, list(file.hubs))
    for family in file.families.values():
        yield from _family(family)
    for model in file.models.values():
        yield from _model(model, file)
    for index, table in enumerate(file.evaluations):
        yield from _table(index, table)


def dotted(path: Sequence[Step]) -> str:
    """A path as it is written in messages: models.internlm-7b.releases[2].hub"""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".") or "the registry"


def _unknown_field(path: Sequence[Step], schema: dict[str, Any] | None) -> str:
    parent, name = path[:-1], str(path[-1])
    if schema is None:
        return f"{dotted(parent)} has no field '{name}'"
    fields = _fields(schema, parent)
    guess = near(name, fields, 1)
    hint = f"did you mean {guess[0]}? " if guess else ""
    return f"{dotted(parent)} has no field '{name}'; {hint}allowed: {', '.join(fields)}"


def _fields(schema: dict[str, Any], path: Sequence[Step]) -> list[str]:
    """The fields that may stand at a path, followed through the JSON schema."""
    part: dict[str, Any] = schema
    for step in path:
        part = _inner(_object(part, schema), step)
    return sorted(_object(part, schema).get("properties", {}))


def _object(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The part itself, behind its $ref and behind `or null`."""
    for option in (part, *part.get("anyOf", ()), *part.get("allOf", ())):
        if "$ref" in option:
            target: dict[str, Any] = schema["$defs"][option["$ref"].rsplit("/", 1)[-1]]
            return target
    return part


def _inner(part: dict[str, Any], step: Step) -> dict[str, Any]:
    found: dict[str, Any]
    if isinstance(step, int):
        found = part.get("items", {})
    else:
        found = part.get("properties", {}).get(step) or part.get("additionalProperties", {})
    return found


def _family(family: Family) -> Iterator[Finding]:
    roles = list(family.special_tokens)
    for index, role in enumerate(family.stop_tokens):
        if role not in roles:
            yield ("families", family.name, "stop_tokens", index), _no_such("special token", role, roles)


def _model(model: Model, file: RegistryFile) -> Iterator[Finding]:
    path = ("models", model.name)
    family = file.families.get(model.family)
    if family is None:
        yield (*path, "family"), _no_such("family", model.family, list(file.families))
        return
    for role, token in model.special_tokens.items():
        if role not in family.special_tokens and token.token is None:
            roles = list(family.special_tokens)
            yield (*path, "special_tokens", role), _no_such(f"special token of {family.name}", role, roles)
    seen: set[tuple[str, str | None]] = set()
    for index, release in enumerate(model.releases):
        if release.hub not in file.hubs:
            yield (*path, "releases", index, "hub"), _no_such("hub", release.hub, list(file.hubs))
        if (release.hub, release.format) in seen:
            same = f"a second release on {release.hub} in format {release.format}"
            yield (*path, "releases", index), f"{model.name} has {same}"
        seen.add((release.hub, release.format))


def _table(index: int, table: EvaluationTable) -> Iterator[Finding]:
    columns = set(table.models)
    for number, row in enumerate(table.rows):
        path = ("evaluations", index, "rows", number)
        if set(row.scores) != columns:
            wrong = ", ".join(map(repr, sorted(columns ^ set(row.scores))))
            what = f"the scores of {row.benchmark} differ from the table's models in {wrong}"
            yield (*path, "scores"), what
        for field in ("best_in_class", "from_original_paper"):
            for name in set(getattr(row, field)) - columns:
                yield (*path, field), _no_such("column", name, list(table.models))


def _no_such(what: str, name: str, known: list[str]) -> str:
    return f"there is no {what} '{name}'; known: {', '.join(known)}"
