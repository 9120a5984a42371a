"""`lock`: what the releases are on their hubs now, recorded or checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.flags import as_flags
from internlm_zoo.cli.shell import Shell, verb
from internlm_zoo.cli.tables import SHORT_REVISION, TextTable, byte_count, figure

if TYPE_CHECKING:
    from rich.console import RenderableType

    from internlm_zoo.registry.quoted import QuotedFact
    from internlm_zoo.sources.lock_update import Resolved
    from internlm_zoo.sources.status import ReleaseComparison

_DIFFERENT, _PARTLY = 1, 3


@verb("lock", example="internlm-zoo lock internlm-chat-7b --check", asks_hubs=True)
def lock(
    shell: Shell,
    models: Annotated[list[str] | None, typer.Argument(help="Models; all of them if none is named.")] = None,
    check: Annotated[bool, "Change nothing; exit 1 if anything differs."] = False,
    file: Annotated[Path | None, "This lock file in place of the user's own."] = None,
) -> CommandResult:
    """Ask the hubs for revisions, sizes and digests of the models' releases, and record them.

    Exit code 3 if some releases could not be asked for; what could be is recorded.
    """
    from internlm_zoo import lock as ask
    from internlm_zoo.registry.lock import user_lock
    from internlm_zoo.registry.quoted import sentences

    resolved = ask(models or (), check=check, file=file, settings=shell.settings)
    note_all(shell, resolved)
    for item in resolved:
        shell.note(*(f"{item.release.id}: {sentence}" for sentence in sentences(_quoted_facts(item))))
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
    content = {"files": now and len(now.files), "bytes": now and now.size, "trust": now and now.trust}
    differences = changes(item.before, now) if item.before and now else []
    return {**release_facts(item), **content, "changes": differences, "quoted": _quoted_facts(item)}


def release_facts(item: Resolved | ReleaseComparison) -> dict[str, Any]:
    """Of one that a hub was asked for."""
    release, now = item.release, item.now
    place = {"model": item.model, "hub": release.hub, "repo": now.repo if now else release.repo}
    found = {"format": release.format, "state": item.state, "revision": now and now.revision}
    return {**place, **found, "error": item.error and as_flags(str(item.error)), "notes": item.notes}


def note_all(shell: Shell, found: Sequence[Resolved | ReleaseComparison]) -> None:
    """Every note once, and what could not be asked for."""
    shell.note(*dict.fromkeys(note for item in found for note in item.notes))
    shell.note(*(f"{item.model} on {item.release.id}: {item.error}" for item in found if item.error))


def _quoted_facts(item: Resolved) -> tuple[QuotedFact, ...]:
    """What public sources quoted of this release, against what its hub says now."""
    from internlm_zoo.registry.quoted import quoted_facts

    return quoted_facts(item.release.quoted_files, item.now.files) if item.now else ()


def _view(resolved: list[Resolved]) -> RenderableType:
    from rich.console import Group

    titles = ("Model", "Hub", "Repository", "Revision", figure("Files"), figure("Size"), "State")
    overview = TextTable(titles, [_row(item) for item in resolved])
    differences = [row for item in resolved for row in _change_rows(item)]
    if not differences:
        return overview
    changed = TextTable(("Release", "File", "Change", "Before", "Now"), differences, title="What changed")
    return Group(overview, "", changed)


def _row(item: Resolved) -> list[str]:
    now, content = item.now, ["", "", ""]
    if now:
        content = [now.revision[:SHORT_REVISION], str(len(now.files)), byte_count(now.size)]
    return [item.model, item.release.hub, now.repo if now else item.release.repo, *content, item.state]


def _change_rows(item: Resolved) -> list[list[str]]:
    from internlm_zoo.sources.lock_update import changes

    if item.before is None or item.now is None:
        return []
    found = changes(item.before, item.now)
    return [[item.release.id, change.path or "", change.kind, change.before, change.now] for change in found]
