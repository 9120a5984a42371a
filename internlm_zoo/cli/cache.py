"""`cache`: what the local store holds, where it is, checking it, and taking things into it and out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.download_options import Workers
from internlm_zoo.cli.flags import as_flags
from internlm_zoo.cli.shell import Shell, group, verb
from internlm_zoo.cli.tables import SHORT_REVISION, UNKNOWN, Column, TextTable, byte_count, figure, wide
from internlm_zoo.fs.disk import disk

if TYPE_CHECKING:
    from internlm_zoo.downloads.importing import ImportedRelease
    from internlm_zoo.registry.lock import LockedRelease
    from internlm_zoo.store.inventory import DiskShare, StoredRelease, UnreadableRelease
    from internlm_zoo.store.removal import Removal

_DryRun = Annotated[bool, "Say what would go, and remove nothing."]

group("cache", "What the local store holds, where it is, checking it, taking things into it and out of it.")


@verb("list", group="cache", example="internlm-zoo cache list")
def cache_list(shell: Shell) -> CommandResult:
    """Show the releases in the local store. Own: bytes that no other release and no other cache has."""
    from internlm_zoo.store.inventory import inventory, shares, usage
    from internlm_zoo.store.layout import Store

    store = Store(shell.settings.home)
    contents, used = inventory(store), usage(store)
    holdings = contents.holdings
    rows = [_stored_release(*entry) for entry in zip(holdings, shares(holdings), strict=True)]
    data = {"home": store.home, "releases": rows, "unread": _unread(shell, contents.unread)}
    data |= {"blob_bytes": used.blobs, "partial_bytes": used.partial}
    unfinished = f", {byte_count(used.partial)} in unfinished downloads" if used.partial else ""
    shell.note(f"{byte_count(used.blobs)} in files{unfinished}, in {store.home}")
    nothing = "no release in the store can be read" if contents.unread else "the store is empty"
    return CommandResult(data, _releases_table(rows) if holdings else [nothing])


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
    revision: Annotated[str | None, "Only this revision, or what begins like it."] = None,
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
    dry_run: Annotated[bool, "Say what would be taken, and take nothing."] = False,
) -> CommandResult:
    """Take every file of a locked release that lies in a folder into the store; the folder stays as it is."""
    from internlm_zoo.downloads.importing import import_folders

    releases = shell.call(import_folders, folders, dry_run=dry_run)
    if not releases:
        shell.note("`internlm-zoo lock` records releases, so that their files are known")
    data = {"dry_run": dry_run, "releases": [_imported_release(one) for one in releases]}
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
    from internlm_zoo.cli.download import verified
    from internlm_zoo.integrity.report import Verification
    from internlm_zoo.integrity.storewide import verify_store

    found = verified(Verification(tuple(shell.call(verify_store, models or (), workers))))
    return found if found.data["folders"] else replace(found, view=["the store is empty"])


def _place(model: str, release: LockedRelease) -> dict[str, Any]:
    return {"model": model, "hub": release.hub, "repo": release.repo, "revision": release.revision}


def _imported_release(one: ImportedRelease) -> dict[str, Any]:
    files = {"taken": one.taken, "bytes": one.size, "files": one.here, "files_in_release": one.total}
    return {**_place(one.model, one.release), **files, "path": one.path if one.completed else None}


def _releases_sheet(releases: list[ImportedRelease]) -> TextTable:
    titles = ("Model", wide("Release"), figure("Taken"), figure("Size"), figure("Files here"))
    rows = [
        [one.model, one.release.id, str(len(one.taken)), byte_count(one.size), f"{one.here} of {one.total}"]
        for one in releases
    ]
    return TextTable(titles, rows)


def _removed(shell: Shell, removal: Removal, dry_run: bool) -> CommandResult:
    done = "would be removed" if dry_run else "removed"
    lines = [str(folder) for folder in removal.releases]
    lines.append(f"{len(lines)} releases, {len(removal.files)} files, {byte_count(removal.size)} {done}")
    unread = _unread(shell, removal.unread)
    data = {**vars(removal), "unread": unread, "bytes": removal.size, "dry_run": dry_run}
    return CommandResult(data, lines)


def _unread(shell: Shell, unread: Sequence[UnreadableRelease]) -> list[dict[str, Any]]:
    """Tells of them; what `--json` prints."""
    left = "so its files are left as they are"
    shell.note(*(f"{one.path}: {one.error.what}, {left}; {one.error.fix}" for one in unread))
    return [
        {"path": one.path, "what": as_flags(one.error.what), "fix": as_flags(one.error.fix or "")}
        for one in unread
    ]


def _stored_release(holding: StoredRelease, share: DiskShare) -> dict[str, Any]:
    record, release = holding.record, holding.record.release
    files = {"files": len(release.files), "files_in_release": record.total, "bytes": holding.size}
    files |= {"own_bytes": share.own, "shared_bytes": share.shared}
    what = {"format": release.format, "trust": release.trust}
    return {**_place(record.model, release), **what, **files, "path": holding.path}


def _releases_table(holdings: list[dict[str, Any]]) -> TextTable:
    place = ("Model", "Format", "Hub", wide("Repository"), Column("Revision", narrow="drop"))
    titles = (*place, figure("Files"), figure("Size"), figure("Own"))
    rows = []
    for facts in holdings:
        row = [facts["model"], facts["format"] or UNKNOWN, facts["hub"], facts["repo"]]
        row += [facts["revision"][:SHORT_REVISION], f"{facts['files']} of {facts['files_in_release']}"]
        rows.append([*row, byte_count(facts["bytes"]), byte_count(facts["own_bytes"])])
    return TextTable(titles, rows)
