"""`cache`: what the local store holds, where it is, checking it, and taking things into it and out of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.download_options import Workers
from internlm_zoo.cli.flags import as_flags
from internlm_zoo.cli.shell import Shell, group, verb
from internlm_zoo.fs.disk import disk

if TYPE_CHECKING:
    from rich.console import RenderableType

    from internlm_zoo.downloads.importing import ImportedRelease
    from internlm_zoo.store.inventory import DiskShare, StoredRelease, UnreadableRelease
    from internlm_zoo.store.removal import Removal

# As many characters of a revision as tell it from others, `listing-...` included.
_SHORT = 20
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")]


group("cache", "What the local store holds, where it is, checking it, taking things into it and out of it.")


@verb("list", group="cache", example="internlm-zoo cache list")
def cache_list(shell: Shell) -> CommandResult:
    """Show the releases in the local store. Own: bytes that no other release and no other cache has."""
    from internlm_zoo.cli.tables import byte_count
    from internlm_zoo.store.inventory import inventory, shares, usage
    from internlm_zoo.store.layout import Store

    store = Store(shell.settings.home)
    there, used = inventory(store), usage(store)
    held = there.holdings
    rows = [_stored_release(*entry) for entry in zip(held, shares(held), strict=True)]
    _tell(shell, there.unread)
    data = {
        "home": store.home,
        "releases": rows,
        "unread": [_unread(one) for one in there.unread],
        "blob_bytes": used.blobs,
        "partial_bytes": used.partial,
    }
    unfinished = f", {byte_count(used.partial)} in unfinished downloads" if used.partial else ""
    shell.note(f"{byte_count(used.blobs)} in files{unfinished}, in {store.home}")
    nothing = "no release in the store can be read" if there.unread else "the store is empty"
    return CommandResult(data, _releases_table(rows) if held else [nothing])


@verb("path", group="cache", example="internlm-zoo cache path internlm-chat-7b")
def cache_path(
    shell: Shell,
    model: Annotated[
        str | None, typer.Argument(help="A model in the store; default: the store itself.")
    ] = None,
) -> CommandResult:
    """Print where the store is, or where a model is in it."""
    from internlm_zoo.store.locate import downloads_of

    path = downloads_of(model, shell.settings)[0] if model else shell.settings.home
    return CommandResult({"path": path}, path)


@verb("rm", group="cache", example="internlm-zoo cache rm internlm-chat-7b --dry-run")
def cache_rm(
    shell: Shell,
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL|FOLDER...", help="Models in the store, or folders of releases in it."),
    ],
    revision: Annotated[
        str | None, typer.Option("--revision", help="Only this revision, or what begins like it.")
    ] = None,
    dry_run: _DryRun = False,
) -> CommandResult:
    """Remove models from the store. Files that other releases have as well stay."""
    from internlm_zoo.store.layout import Store
    from internlm_zoo.store.removal import named_in, removal_of, remove

    store = Store(shell.settings.home)
    chosen = [one for name in models for one in named_in(store, name, shell.settings, revision)]
    removal = removal_of(store, chosen)
    if not dry_run:
        with disk(store.home):
            remove(store, removal)
    return _removed(shell, removal, dry_run)


@verb("prune", group="cache", example="internlm-zoo cache prune")
def cache_prune(shell: Shell, dry_run: _DryRun = False) -> CommandResult:
    """Remove files that belong to no release, and downloads that nobody goes on with."""
    from internlm_zoo.store.in_use import alone
    from internlm_zoo.store.layout import Store
    from internlm_zoo.store.removal import leftovers, remove

    store = Store(shell.settings.home)
    with disk(store.home), alone(store):
        removal = leftovers(store)
        if not dry_run:
            remove(store, removal)
    return _removed(shell, removal, dry_run)


@verb("adopt", group="cache", example="internlm-zoo cache adopt /mnt/disk/models")
def cache_adopt(
    shell: Shell,
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Searched at any depth.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be taken, and take nothing.")
    ] = False,
) -> CommandResult:
    """Take every file of a locked release that lies in a folder into the store; the folder stays as it is."""
    from internlm_zoo.downloads.importing import import_folders

    with shell.progress() as progress:
        releases = import_folders(folders, settings=shell.settings, dry_run=dry_run, progress=progress)
    if not releases:
        shell.note("`internlm-zoo lock` records releases, so that their files are known")
    data = {"dry_run": dry_run, "releases": [_release(imported) for imported in releases]}
    nothing = "no file of a locked release is there"
    return CommandResult(data, _releases_sheet(releases) if releases else [nothing])


@verb("verify", group="cache", example="internlm-zoo cache verify")
def cache_verify(
    shell: Shell,
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Models in the store; default: all of it."),
    ] = None,
    workers: Workers = None,
) -> CommandResult:
    """Hash everything in the store, shared files once; exit with 1 if a file is wrong, missing or extra."""
    from internlm_zoo.cli.download import verdicts
    from internlm_zoo.integrity.storewide import verify_store

    with shell.progress() as progress:
        reports = verify_store(models or (), workers, settings=shell.settings, progress=progress)
    ok = all(report.ok for report in reports)
    data = {"ok": ok, "folders": [{"ok": report.ok, **vars(report)} for report in reports]}
    return CommandResult(
        data, verdicts(reports) if reports else ["the store is empty"], exit_code=0 if ok else 1
    )


def _release(imported: ImportedRelease) -> dict[str, Any]:
    release = imported.release
    return {
        "model": imported.model,
        "hub": release.hub,
        "repo": release.repo,
        "revision": release.revision,
        "taken": imported.taken,
        "bytes": imported.size,
        "files": imported.here,
        "files_in_release": imported.total,
        "path": imported.path if imported.completed else None,
    }


def _releases_sheet(releases: list[ImportedRelease]) -> RenderableType:
    from internlm_zoo.cli.tables import Column, TextTable, byte_count

    columns = [Column("Model"), Column("Release", narrow="fold"), Column("Taken", "right")]
    columns += [Column("Size", "right"), Column("Files here", "right")]
    rows = [
        [
            imported.model,
            imported.release.id,
            str(len(imported.taken)),
            byte_count(imported.size),
            f"{imported.here} of {imported.total}",
        ]
        for imported in releases
    ]
    return TextTable(columns, rows)


def _removed(shell: Shell, removal: Removal, dry_run: bool) -> CommandResult:
    from internlm_zoo.cli.tables import byte_count

    done = "would be removed" if dry_run else "removed"
    lines = [str(folder) for folder in removal.releases]
    lines.append(f"{len(lines)} releases, {len(removal.files)} files, {byte_count(removal.size)} {done}")
    _tell(shell, removal.unread)
    unread = [_unread(one) for one in removal.unread]
    data = {**vars(removal), "unread": unread, "bytes": removal.size, "dry_run": dry_run}
    return CommandResult(data, lines)


def _tell(shell: Shell, unread: Iterable[UnreadableRelease]) -> None:
    for one in unread:
        shell.note(f"{one.path}: {one.error.what}, so its files are left as they are; {one.error.fix}")


def _unread(one: UnreadableRelease) -> dict[str, Any]:
    return {"path": one.path, "what": as_flags(one.error.what), "fix": as_flags(one.error.fix or "")}


def _stored_release(holding: StoredRelease, share: DiskShare) -> dict[str, Any]:
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
        "own_bytes": share.own,
        "shared_bytes": share.shared,
        "path": holding.path,
    }


def _releases_table(held: list[dict[str, Any]]) -> RenderableType:
    from internlm_zoo.cli.tables import UNKNOWN, Column, TextTable, byte_count

    columns = [Column("Model"), Column("Format"), Column("Hub"), Column("Repository", narrow="fold")]
    columns += [Column("Revision", narrow="drop"), Column("Files", "right")]
    columns += [Column("Size", "right"), Column("Own", "right")]
    rows = []
    for facts in held:
        place = [facts["model"], facts["format"] or UNKNOWN, facts["hub"], facts["repo"]]
        count = f"{facts['files']} of {facts['files_in_release']}"
        sizes = [byte_count(facts["bytes"]), byte_count(facts["own_bytes"])]
        rows.append([*place, facts["revision"][:_SHORT], count, *sizes])
    return TextTable(columns, rows)
