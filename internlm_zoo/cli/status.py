"""`status`: whether the hubs hold the same of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.lock import note_all, release_facts
from internlm_zoo.cli.shell import Shell, verb
from internlm_zoo.cli.tables import UNKNOWN, Column, TextTable, wide

if TYPE_CHECKING:
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
    note_all(shell, found)
    states = {one.state for one in found}
    code = _DRIFT if states & DRIFT else _PARTLY if "unreachable" in states else 0
    return CommandResult([_facts(one) for one in found], _view(found), exit_code=code)


def _facts(one: ReleaseComparison) -> dict[str, Any]:
    return {**release_facts(one), "updated": one.updated, "differing": one.differing}


def _view(found: list[ReleaseComparison]) -> TextTable:
    place = ("Model", "Format", "Hub", wide("Repository"))
    titles = (*place, "State", "Updated", Column("Revision", narrow="drop"), wide("Files that differ"))
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
    return TextTable(titles, rows)


def _shown(paths: tuple[str, ...]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more
