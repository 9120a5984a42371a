"""`list`, `show`, `evals` and `registry`: what the registry knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.shell import Shell, group, verb

if TYPE_CHECKING:
    from internlm_zoo.registry.query import Registry
    from internlm_zoo.registry.schema import Kind, Model

_COLUMNS = (
    "model, kind, released, updated, hf, original, quantised, trained, claimed, positions, size, parameters, "
    "bytes, layers, hidden, vocabulary, licence, family, title"
)

group("registry", help="Check and export the registry.")


@verb("list", example="internlm-zoo list --family internlm2.5 --kind chat")
def list_models(
    shell: Shell,
    family: Annotated[str | None, "Only this family."] = None,
    kind: Annotated[str | None, "Only base, chat, chat-sft, reward, instruct or prover."] = None,
    cached: Annotated[bool, "Only models in the local store."] = False,
    columns: Annotated[str | None, typer.Option(metavar="A,B,...", help=f"Any of {_COLUMNS}.")] = None,
    sort: Annotated[str | None, typer.Option(metavar="COLUMN", help="By a column, unknown last.")] = None,
    reverse: Annotated[bool, "The other way round."] = False,
) -> CommandResult:
    """List the models, where they are published and in which format.

    --cached: the releases of them that are in the store, and what their smoke tests said; with --columns what
    the registry says of those models.
    """
    from internlm_zoo.cli.catalogue_list import chosen, models_table, ordered
    from internlm_zoo.registry import load_registry
    from internlm_zoo.registry.query import select

    registry, stored = load_registry(shell.settings), None
    if cached:
        from internlm_zoo.cli.stored import stored_models, stored_table

        stored = stored_models(shell.settings)
    found = select(registry, family=family, kind=_kind(kind), names=stored and {*stored})
    models = ordered(registry, found, sort, reverse)
    table = models_table(registry, models, chosen(columns), grouped=sort is None)
    if stored is None:
        return CommandResult([_summary(model) for model in models], table)
    data = [{**_summary(model), "stored": stored[model.name]} for model in models]
    return CommandResult(data, table if columns else stored_table(data))


@verb("show", example="internlm-zoo show internlm-20b --files")
def show(
    shell: Shell,
    model: Annotated[str, typer.Argument(help="Name of a model, as `list` shows it.")],
    files: Annotated[bool, "Every file of every recorded release."] = False,
) -> CommandResult:
    """Show all that is known about one model; what no source states is unknown."""
    from internlm_zoo.cli.catalogue_sheet import model_sheet
    from internlm_zoo.cli.stored import stored_models
    from internlm_zoo.registry import load_registry
    from internlm_zoo.registry.lock import Lock

    registry = load_registry(shell.settings)
    found = registry.model(model)
    lock = Lock.load(shell.settings)
    locked = [lock.find(release.hub, release.repo, release.revision) for release in found.releases]
    stored = stored_models(shell.settings).get(found.name, [])
    data = {**_facts(registry, found), "locked": [release for release in locked if release], "stored": stored}
    return CommandResult(data, model_sheet(registry, found, locked, files=files, stored=stored))


@verb("evals", example="internlm-zoo evals internlm-20b --chart internlm-20b.svg")
def evals(
    shell: Shell,
    models: Annotated[list[str] | None, typer.Argument(help="Models to look at; all tables if none.")] = None,
    chart: Annotated[Path | None, "Draw the scores into a .png or .svg file."] = None,
) -> CommandResult:
    """Show the published evaluation tables; the named models come first, the others for comparison."""
    from internlm_zoo.cli.catalogue_scores import evaluation_tables
    from internlm_zoo.registry import evaluations, load_registry

    registry = load_registry(shell.settings)
    asked = evaluations.find_columns(registry, models or [])
    tables = evaluations.with_columns_first(registry.evaluations, asked)
    if chart is not None:
        from internlm_zoo.registry.chart import draw

        draw(tables, chart, asked or evaluations.own_columns(registry))
        return CommandResult({"chart": chart, "tables": [table.id for table in tables]}, chart)
    return CommandResult(tables, evaluation_tables(tables, asked))


@verb("validate", group="registry", example="internlm-zoo registry validate my.yaml")
def validate(
    shell: Shell,
    file: Annotated[Path | None, typer.Argument(help="An overlay file; the registry in use if none.")] = None,
) -> CommandResult:
    """Check a registry file and name every line that is wrong (exit 2)."""
    from internlm_zoo.registry import RegistryError, read_registry

    try:
        registry = read_registry(file or shell.settings.registry)
    except RegistryError as error:
        lines = [str(problem) for problem in error.problems]
        return CommandResult({"valid": False, "problems": error.problems}, lines, error.exit_code)
    counts = {name: len(getattr(registry, name)) for name in ("hubs", "families", "models", "evaluations")}
    view = ", ".join(f"{count} {name}" for name, count in counts.items())
    return CommandResult({"valid": True, **counts}, [f"valid: {view}"])


@verb("schema", group="registry", example="internlm-zoo registry schema > registry.schema.json")
def schema(shell: Shell) -> CommandResult:
    """Print the JSON Schema of registry files, for editors."""
    from internlm_zoo.registry.schema import json_schema

    return _document(json_schema())


@verb("export", group="registry", example="internlm-zoo registry export > registry.json")
def export(shell: Shell) -> CommandResult:
    """Print the whole registry, with any overlay on top, as one JSON document."""
    from internlm_zoo.registry import load_registry

    registry = load_registry(shell.settings)
    data = {
        "sources": list(registry.sources),
        "hubs": {name: hub.model_dump(mode="json") for name, hub in registry.hubs.items()},
        "families": {name: family.model_dump(mode="json") for name, family in registry.families.items()},
        "models": {name: model.model_dump(mode="json") for name, model in registry.models.items()},
        "evaluations": [table.model_dump(mode="json") for table in registry.evaluations],
        "other_architectures": [other.model_dump(mode="json") for other in registry.other_architectures],
    }
    return _document(data)


def _kind(kind: str | None) -> Kind | None:
    from typing import get_args

    from internlm_zoo.errors import UsageError
    from internlm_zoo.registry.schema import Kind

    known = {str(name): name for name in get_args(Kind)}
    if kind is None or kind in known:
        return known.get(kind or "")
    raise UsageError(f"there is no kind '{kind}'", fix=f"known kinds: {', '.join(known)}")


def _summary(model: Model) -> dict[str, Any]:
    fields = {"name", "display_name", "family", "size", "kind", "release_date", "update_date", "context"}
    fields |= {"parameters", "bytes_16bit", "licence"}
    releases = [{"id": release.id, "format": release.format} for release in model.releases]
    return {**model.model_dump(mode="json", include=fields), "releases": releases}


def _facts(registry: Registry, model: Model) -> dict[str, Any]:
    from internlm_zoo.registry.explain import dotted
    from internlm_zoo.registry.query import parameter_count

    family = registry.family_of(model)
    origins = registry.origins_of(model)
    return {
        **model.model_dump(mode="json"),
        "layout": family.layout,
        "chat_template": registry.chat_template_of(model),
        "special_tokens": registry.special_tokens_of(model),
        "stop_tokens": [token.token for token in registry.stop_tokens_of(model)],
        "tokenizer": registry.tokenizer_of(model),
        "parameters": parameter_count(model),
        "overlaid": {dotted(path) if path else model.name: str(place) for path, place in origins.items()},
    }


def _document(data: Any) -> CommandResult:
    """What is JSON for people, too."""
    from internlm_zoo.plain import escaped_json

    return CommandResult(data, escaped_json(json.dumps(data, indent=2, ensure_ascii=False)))
