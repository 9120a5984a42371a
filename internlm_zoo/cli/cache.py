"""`cache`: what the local store holds, where it is, and taking things out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from internlm_zoo.cli.shell import Answer, Shell, group, verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from internlm_zoo.store.inventory import Holding
    from internlm_zoo.store.removal import Removal

# As many characters of a revision as tell it from others, `listing-...` included.
_SHORT = 20
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")]


group("cache", "What the local store holds, where it is, and taking things out of it.")


@verb("list", group="cache", example="internlm-zoo cache list")
def cache_list(shell: Shell) -> Answer:
    """Show the releases in the local store. Files that releases share take their place once."""
    from internlm_zoo.cli.tables import byte_count
    from internlm_zoo.store.inventory import holdings, usage
    from internlm_zoo.store.layout import Store

    store = Store(shell.settings.home)
    held, used = holdings(store), usage(store)
    data = {
        "home": store.home,
        "releases": [_holding(holding) for holding in held],
        "blob_bytes": used.blobs,
        "partial_bytes": used.partial,
    }
    unfinished = f", {byte_count(used.partial)} in unfinished downloads" if used.partial else ""
    shell.note(f"{byte_count(used.blobs)} in files{unfinished}, in {store.home}")
    return Answer(data, _holdings_sheet(held) if held else "the store is empty")


@verb("path", group="cache", example="internlm-zoo cache path internlm-chat-7b")
def cache_path(
    shell: Shell,
    model: Annotated[
        str | None, typer.Argument(help="A model in the store; default: the store itself.")
    ] = None,
) -> Answer:
    """Print where the store is, or where a model is in it."""
    from internlm_zoo.store.locate import downloads_of

    path = downloads_of(model, shell.settings)[0] if model else shell.settings.home
    return Answer({"path": path}, str(path))


@verb("rm", group="cache", example="internlm-zoo cache rm internlm-chat-7b --dry-run")
def cache_rm(
    shell: Shell,
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models in the store.")],
    revision: Annotated[
        str | None, typer.Option("--revision", help="Only this revision, or what begins like it.")
    ] = None,
    dry_run: _DryRun = False,
) -> Answer:
    """Remove models from the store. Files that other releases have as well stay."""
    from internlm_zoo.errors import NotFoundError
    from internlm_zoo.store.layout import Store
    from internlm_zoo.store.locate import held
    from internlm_zoo.store.removal import removal_of, remove

    store = Store(shell.settings.home)
    chosen = []
    for model in models:
        found = [
            holding
            for holding in held(model, shell.settings)
            if holding.record.release.revision.startswith(revision or "")
        ]
        if not found:
            what = f"{model} is not in the store" + (f" at {revision}" if revision else "")
            raise NotFoundError(what, store.home, "`internlm-zoo cache list` shows what is")
        chosen += found
    removal = removal_of(store, chosen)
    if not dry_run:
        remove(store, removal)
    return _removed(removal, dry_run)


@verb("prune", group="cache", example="internlm-zoo cache prune")
def cache_prune(shell: Shell, dry_run: _DryRun = False) -> Answer:
    """Remove files that belong to no release, and downloads that nobody goes on with."""
    from internlm_zoo.store.layout import Store
    from internlm_zoo.store.removal import leftovers, remove

    store = Store(shell.settings.home)
    removal = leftovers(store)
    if not dry_run:
        remove(store, removal)
    return _removed(removal, dry_run)


def _removed(removal: Removal, dry_run: bool) -> Answer:
    from internlm_zoo.cli.tables import byte_count

    done = "would be removed" if dry_run else "removed"
    lines = [str(folder) for folder in removal.releases]
    lines.append(f"{len(lines)} releases, {len(removal.files)} files, {byte_count(removal.size)} {done}")
    data = {**vars(removal), "bytes": removal.size, "dry_run": dry_run}
    return Answer(data, "\n".join(lines))


def _holding(holding: Holding) -> dict[str, Any]:
    record = holding.record
    release = record.release
    return {
        "model": record.model,
        "hub": release.hub,
        "repo": release.repo,
        "revision": release.revision,
        "format": release.format,
        "trust": release.trust,
        "files": len(release.files),
        "files_in_release": record.total,
        "bytes": holding.size,
        "path": holding.path,
    }


def _holdings_sheet(held: list[Holding]) -> RenderableType:
    from internlm_zoo.cli.tables import UNKNOWN, Column, Sheet, byte_count

    columns = [Column("Model"), Column("Format"), Column("Hub"), Column("Repository", narrow="fold")]
    columns += [Column("Revision", narrow="drop"), Column("Files", "right"), Column("Size", "right")]
    rows = []
    for facts in map(_holding, held):
        place = [facts["model"], facts["format"] or UNKNOWN, facts["hub"], facts["repo"]]
        count = f"{facts['files']} of {facts['files_in_release']}"
        rows.append([*place, facts["revision"][:_SHORT], count, byte_count(facts["bytes"])])
    return Sheet(columns, rows)
