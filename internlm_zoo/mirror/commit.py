"""Moves a release from its stage to its place, or out of the mirror, and keeps the index true at every
moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from internlm_zoo.downloads.result import DownloadedFile
from internlm_zoo.mirror.copying import CopiedRelease
from internlm_zoo.mirror.destinations import Destination
from internlm_zoo.mirror.planning import preexisting
from internlm_zoo.mirror.values import Action, LocalState, PlannedRelease, UnwantedRelease
from internlm_zoo.names import is_sha1
from internlm_zoo.store.mirror_index import Index, IndexedFile, IndexedRelease, IndexedSource, git_digest


def commit(copied: CopiedRelease, index: Index, destination: Destination) -> tuple[Index, PlannedRelease]:
    """The index, published, once the files are in place and those that are gone are removed, and the item as
    it turned out. Killed in between, the index speaks of no file that is not as it says, and says whose the
    files are that lie there."""
    item = copied.item
    path = item.entry.path
    before = index.find(path)
    if before is None:
        index = index.put(replace(_indexed_release(copied, None, []), revision=None))
        destination.publish(index)
    elif item.actions:
        index = index.forget(path, [action.path for action in item.actions])
        destination.publish(index)
    left = destination.remove(path, _stamps(item.to_delete, item.on_disk))
    stage = copied.stage or Path()
    git = {file.path: git_digest(stage / file.path, file.size or 0) for file in copied.files.values()}
    stamps = destination.commit(path, list(copied.files))
    arrived = [_indexed_file(file, git, stamps) for file in copied.files.values()]
    arrived += [item.on_disk.right[action.path] for action in item.actions if action.why == "here"]
    index = index.put(_indexed_release(copied, index.find(path), arrived))
    destination.publish(index)
    destination.clear(path)
    return index, replace(item, actions=_outcome(item.actions, copied, left))


def remove_release(
    unwanted: UnwantedRelease, index: Index, destination: Destination
) -> tuple[Index, UnwantedRelease]:
    """The index, published, without a release that is gone, and what became of it. Killed in between, the
    next apply removes the rest."""
    indexed = unwanted.indexed
    destination.publish(index.forget(indexed.path, [file.path for file in indexed.files]))
    going = [action for action in unwanted.actions if action.kind == "delete"]
    left = destination.remove(indexed.path, _stamps(going, unwanted.on_disk))
    index = index.drop(indexed.path)
    destination.publish(index)
    return index, replace(unwanted, actions=_outcome(unwanted.actions, None, left))


def _stamps(actions: Iterable[Action], on_disk: LocalState) -> dict[str, str]:
    """Of what lies there, when it was decided that it goes."""
    return {
        action.path: on_disk.files[action.path].stamp for action in actions if action.path in on_disk.files
    }


def _outcome(
    actions: Iterable[Action], copied: CopiedRelease | None, left: Iterable[str]
) -> tuple[Action, ...]:
    """The actions as they turned out, with the sizes of what came."""
    came, left = copied.files if copied else {}, set(left)
    done = []
    for action in actions:
        if action.path in left:
            action = replace(action, kind="keep", why="touched")
        elif action.kind in ("copy", "update") and action.path in came:
            action = _as_it_came(action, came[action.path])
        done.append(action)
    return tuple(done)


def _as_it_came(action: Action, file: DownloadedFile) -> Action:
    origin = str(file.taken_from) if file.taken_from else None
    return replace(action, size=file.size, fetch=file.size if file.source else 0, taken_from=origin)


def _indexed_release(
    copied: CopiedRelease, before: IndexedRelease | None, arrived: list[IndexedFile]
) -> IndexedRelease:
    """before: what the index still says, so its files are those that stay."""
    entry, snapshot = copied.item.entry, copied.item.offer.snapshot
    assert snapshot is not None, "nothing is taken in without an offer"
    kept = before.files if before else ()
    files = sorted([*kept, *arrived], key=lambda file: file.path)
    found = before.found if before else preexisting(copied.item.on_disk)
    trusts = {copied.trust, before.trust if before and kept else "hub"}
    return IndexedRelease(
        path=entry.path,
        model=entry.model,
        format=entry.format,
        revision=snapshot.revision if is_sha1(snapshot.revision) else None,
        source=IndexedSource(snapshot.hub, snapshot.repo, snapshot.revision),
        trust="first-use" if "first-use" in trusts else "hub",
        names=entry.names,
        files=tuple(files),
        found=tuple(path for path in found if path not in {file.path for file in files}),
    )


def _indexed_file(
    file: DownloadedFile, git: Mapping[str, str | None], stamps: Mapping[str, str]
) -> IndexedFile:
    assert file.size is not None and file.sha256 is not None, "a fetched file is known in full"
    return IndexedFile(file.path, file.size, file.sha256, git.get(file.path), stamps[file.path])
