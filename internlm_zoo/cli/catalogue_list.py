"""The columns of `list`: what each shows of a model, and what it is sorted by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.text import Text

from internlm_zoo.cli.tables import UNKNOWN, Column, TextTable, byte_count, number
from internlm_zoo.errors import UsageError
from internlm_zoo.plain import plain
from internlm_zoo.registry.query import Registry, parameter_count
from internlm_zoo.registry.release import QUANTISED
from internlm_zoo.registry.schema import Licence, Model
from internlm_zoo.registry.suggestions import near

_NONE = "-"
Key = str | float | None


@dataclass(frozen=True)
class Field:
    """text: its cell. key: what models are sorted by, None for unknown, which comes last."""

    column: Column
    text: Callable[[Registry, Model], str]
    key: Callable[[Registry, Model], Key]


def _count(header: str, value: Callable[[Model], int | None], none: str = UNKNOWN) -> Field:
    def text(_: Registry, model: Model) -> str:
        found = value(model)
        return none if found is None else number(found)

    return Field(Column(header, "right", narrow="drop"), text, lambda _, model: value(model))


def _word(header: str, value: Callable[[Registry, Model], str | None], none: str = UNKNOWN) -> Field:
    return Field(Column(header, narrow="drop"), lambda registry, model: value(registry, model) or none, value)


def _hubs(header: str, format: str) -> Field:
    return _word(header, lambda registry, model: _short_names(registry, model, format) or None, _NONE)


def _short_names(registry: Registry, model: Model, format: str) -> str:
    """Short hub names; one whose format no source states stands with the hf ones and a question mark."""
    names = []
    for release in model.releases:
        short = registry.hubs[release.hub].short or release.hub
        if release.format == format:
            names.append(short)
        elif release.format is None and format == "hf":
            names.append(f"{short}?")
    return " ".join(names)


def _quantised(_: Registry, model: Model) -> str | None:
    formats = dict.fromkeys(release.format for release in model.releases if release.format in QUANTISED)
    return " ".join(format for format in formats if format) or None


def _size(_: Registry, model: Model) -> float | None:
    unit = {"k": 1e3, "m": 1e6, "b": 1e9}.get(model.size[-1:].lower())
    try:
        return None if unit is None else float(model.size[:-1]) * unit
    except ValueError:
        return None


def _extent(name: str) -> Callable[[Model], int | None]:
    return lambda model: getattr(model.architecture, name, None)


def _payload(model: Model) -> int | None:
    parameters = model.parameters or parameter_count(model)
    return model.bytes_16bit or (None if parameters is None else 2 * parameters)


def _day(value: object | None) -> str | None:
    return None if value is None else str(value)


def _positions(model: Model) -> int | None:
    value = model.released_config.get("max_position_embeddings")
    return value if isinstance(value, int) else None


FIELDS: Mapping[str, Field] = {
    "model": Field(Column("Model", style="cyan"), lambda _, model: model.name, lambda _, model: model.name),
    "kind": _word("Kind", lambda _, model: model.kind),
    "released": _word("Released", lambda _, model: _day(model.release_date)),
    "updated": _word("Updated", lambda _, model: _day(model.update_date), _NONE),
    "hf": _hubs("hf\nformat", "hf"),
    "original": _hubs("original\nformat", "original"),
    "quantised": _word("Quantised", _quantised, _NONE),
    "trained": _count("Trained\ntokens", lambda model: model.context.trained),
    "claimed": _count("Claimed\ntokens", lambda model: model.context.claimed, _NONE),
    "positions": _count("Config\npositions", _positions),
    "size": Field(Column("Size", "right", narrow="drop"), lambda _, model: model.size, _size),
    "parameters": _count("Parameters", lambda model: model.parameters or parameter_count(model)),
    "bytes": Field(
        Column("In 16\nbits", "right", narrow="drop"),
        lambda _, model: byte_count(_payload(model)),
        lambda _, model: _payload(model),
    ),
    "layers": _count("Layers", _extent("num_layers")),
    "hidden": _count("Hidden\nsize", _extent("hidden_size")),
    "vocabulary": _count("Vocabulary", _extent("vocab_size")),
    "licence": _word("Licence of\nweights", lambda _, model: (model.licence or Licence()).weights),
    "family": _word("Family", lambda _, model: model.family),
    "title": _word("Title", lambda _, model: model.display_name),
}
# In the order in which a narrow terminal keeps them.
DEFAULT = ("model", "kind", "released", "hf", "original", "trained", "claimed", "size", "quantised", "family")


def chosen(columns: str | None) -> tuple[str, ...]:
    """The names in a comma separated list, the model's first. Raises UsageError for one that there is not."""
    if columns is None:
        return DEFAULT
    names = [name.strip().lower() for name in columns.split(",") if name.strip()]
    for name in names:
        _field(name, "--columns")
    return tuple(dict.fromkeys(("model", *names)))


def ordered(registry: Registry, models: Sequence[Model], sort: str | None, reverse: bool) -> list[Model]:
    """By a column, the models of which it is unknown last; None: as the registry has them.

    Raises UsageError for a column that there is not.
    """
    if sort is None:
        return list(reversed(models)) if reverse else list(models)
    key = _field(sort.lower(), "--sort").key
    keyed = [(key(registry, model), model) for model in models]
    known = [(value, model) for value, model in keyed if value is not None]
    known.sort(key=lambda item: item[0], reverse=reverse)
    return [model for _, model in known] + [model for value, model in keyed if value is None]


def models_table(
    registry: Registry, models: Sequence[Model], columns: Sequence[str] = DEFAULT, *, grouped: bool = True
) -> RenderableType:
    """One line per model. grouped: with a gap between families."""
    fields = [FIELDS[name] for name in columns]
    rows = [[field.text(registry, model) for field in fields] for model in models]
    pairs = enumerate(pairwise(models)) if grouped else ()
    ends = frozenset(line for line, (model, following) in pairs if model.family != following.family)
    sheet = TextTable([field.column for field in fields], rows, sections=ends)
    return Group(sheet, "", Text(plain(_legend(registry, models, columns)), style="dim"))


def _field(name: str, option: str) -> Field:
    if name in FIELDS:
        return FIELDS[name]
    guess = near(name, FIELDS, 1)
    hint = f"did you mean {guess[0]}? " if guess else ""
    raise UsageError(f"there is no column '{name}'", option, f"{hint}columns: {', '.join(FIELDS)}")


def _legend(registry: Registry, models: Sequence[Model], columns: Sequence[str]) -> str:
    used = {release.hub for model in models for release in model.releases}
    names = [f"{hub.short or name} {hub.title}" for name, hub in registry.hubs.items() if name in used]
    if not {"hf", "original"} & {*columns}:
        names = []
    elif any(release.format is None for model in models for release in model.releases):
        names.append("? format not stated by a source")
    count = "1 model" if len(models) == 1 else f"{len(models)} models"
    return f"{count}. {' · '.join(names)}".rstrip(" ")
