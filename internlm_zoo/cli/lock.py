"""`lock`: what the releases are on their hubs now, recorded or checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.flags import as_flags
from internlm_zoo.cli.shell import Shell, verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from internlm_zoo.registry.quoted import QuotedFact
    from internlm_zoo.sources.lock_update import Resolved

_DIFFERENT, _PARTLY = 1, 3
_SHORT = 20


@verb("lock", example="internlm-zoo lock internlm-chat-7b --check", asks_hubs=True)
def lock(
    shell: Shell,
    models: Annotated[list[str] | None, typer.Argument(help="Models; all of them if none is named.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 if anything differs.")
    ] = False,
    file: Annotated[Path | None, typer.Option(help="This lock file in place of the user's own.")] = None,
) -> CommandResult:
    """Ask the hubs for revisions, sizes and digests of the models' releases, and record them.

    Exit code 3 if some releases could not be asked for; what could be is recorded.
    """
    from internlm_zoo import lock as ask
    from internlm_zoo.registry.lock import user_lock
    from internlm_zoo.registry.quoted import sentences

    resolved = ask(models or (), check=check, file=file, settings=shell.settings)
    for note in dict.fromkeys(note for item in resolved for note in item.notes):
        shell.note(note)
    for item in resolved:
        if item.error:
            shell.note(f"{item.model} on {item.release.id}: {item.error}")
        for told in sentences(_quoted_facts(item)):
            shell.note(f"{item.release.id}: {told}")
    data = {"file": file or user_lock(shell.settings), "releases": [_facts(item) for item in resolved]}
    return CommandResult(data, _view(resolved), _exit_code(resolved, check))


def _exit_code(resolved: list[Resolved], check: bool) -> int:
    errors = [item.error for item in resolved if item.error]
    if check and any(item.state in ("new", "changed") for item in resolved):
        return _DIFFERENT
    if errors:
        return errors[0].exit_code if len(errors) == len(resolved) else _PARTLY
    return 0


def _facts(item: Resolved) -> dict[str, Any]:
    from internlm_zoo.sources.lock_update import changes

    now = item.now
    return {
        "model": item.model,
        "hub": item.release.hub,
        "repo": now.repo if now else item.release.repo,
        "format": item.release.format,
        "state": item.state,
        "revision": now and now.revision,
        "files": now and len(now.files),
        "bytes": now and now.size,
        "trust": now and now.trust,
        "changes": changes(item.before, now) if item.before and now else [],
        "quoted": _quoted_facts(item),
        "error": item.error and as_flags(str(item.error)),
        "notes": item.notes,
    }


def _quoted_facts(item: Resolved) -> tuple[QuotedFact, ...]:
    """What public sources quoted of this release, against what its hub says now."""
    from internlm_zoo.registry.quoted import quoted_facts

    return quoted_facts(item.release.quoted_files, item.now.files) if item.now else ()


def _view(resolved: list[Resolved]) -> RenderableType:
    from rich.console import Group

    from internlm_zoo.cli.tables import Column, TextTable

    columns = [Column(title) for title in ("Model", "Hub", "Repository", "Revision")]
    columns += [Column("Files", "right"), Column("Size", "right"), Column("State")]
    overview = TextTable(columns, [_row(item) for item in resolved])
    differences = [row for item in resolved for row in _change_rows(item)]
    if not differences:
        return overview
    titles = ("Release", "File", "Change", "Before", "Now")
    return Group(
        overview, "", TextTable([Column(title) for title in titles], differences, title="What changed")
    )


def _row(item: Resolved) -> list[str]:
    from internlm_zoo.cli.tables import byte_count

    place = [item.model, item.release.hub]
    if item.now is None:
        return [*place, item.release.repo, "", "", "", item.state]
    now = item.now
    return [*place, now.repo, now.revision[:_SHORT], str(len(now.files)), byte_count(now.size), item.state]


def _change_rows(item: Resolved) -> list[list[str]]:
    from internlm_zoo.sources.lock_update import changes

    if item.before is None or item.now is None:
        return []
    found = changes(item.before, item.now)
    return [[item.release.id, change.path or "", change.kind, change.before, change.now] for change in found]
