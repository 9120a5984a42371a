"""`status`: whether the hubs hold the same of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.flags import as_flags
from internlm_zoo.cli.shell import Shell, verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from internlm_zoo.sources.status import ReleaseComparison

_DRIFT, _PARTLY = 1, 3
_SHORT = 12
_SHOWN = 3


@verb("status", example="internlm-zoo status internlm-chat-7b", asks_hubs=True)
def status(
    shell: Shell,
    models: Annotated[list[str] | None, typer.Argument(help="Models; all of them if none is named.")] = None,
) -> CommandResult:
    """Hold the releases of a model on all hubs against one another: same, older, newer, different, gone.

    Exit code 1 if they differ, 3 if some hubs could not be asked.
    """
    from internlm_zoo import status as ask
    from internlm_zoo.sources.status import DRIFT

    found = ask(models or (), settings=shell.settings)
    for note in dict.fromkeys(note for one in found for note in one.notes):
        shell.note(note)
    for one in found:
        if one.error:
            shell.note(f"{one.model} on {one.release.id}: {one.error}")
    states = {one.state for one in found}
    code = _DRIFT if states & DRIFT else _PARTLY if "unreachable" in states else 0
    return CommandResult([_facts(one) for one in found], _view(found), exit_code=code)


def _facts(one: ReleaseComparison) -> dict[str, Any]:
    return {
        "model": one.model,
        "hub": one.release.hub,
        "repo": one.now.repo if one.now else one.release.repo,
        "format": one.release.format,
        "state": one.state,
        "revision": one.now and one.now.revision,
        "updated": one.updated and one.updated.isoformat(),
        "differing": one.differing,
        "error": one.error and as_flags(str(one.error)),
        "notes": one.notes,
    }


def _view(found: list[ReleaseComparison]) -> RenderableType:
    from internlm_zoo.cli.tables import UNKNOWN, Column, TextTable

    columns = [Column("Model"), Column("Format"), Column("Hub"), Column("Repository", narrow="fold")]
    columns += [Column("State"), Column("Updated"), Column("Revision", narrow="drop")]
    columns += [Column("Files that differ", narrow="fold")]
    rows = [
        [
            one.model,
            one.release.format or UNKNOWN,
            one.release.hub,
            one.now.repo if one.now else one.release.repo,
            one.state,
            f"{one.updated:%Y-%m-%d}" if one.updated else UNKNOWN,
            one.now.revision[:_SHORT] if one.now else UNKNOWN,
            _shown(one.differing),
        ]
        for one in found
    ]
    return TextTable(columns, rows)


def _shown(paths: tuple[str, ...]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more
