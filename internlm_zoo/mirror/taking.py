"""Moves a release from its stage to its place, or out of the mirror, and keeps the index true at every
moment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from internlm_zoo.mirror.copying import Copied
from internlm_zoo.mirror.destinations import Destination
from internlm_zoo.mirror.index import Held, HeldFile, Index, Origin
from internlm_zoo.serve.digests import git_blob_sha1
from internlm_zoo.store.values import DownloadedFile

_COMMIT = re.compile(r"[0-9a-f]{40}")
# Up to this size a hub may list a file by its git digest alone.
_SMALL = 10 * 1024 * 1024


def take_in(copied: Copied, index: Index, destination: Destination) -> Index:
    """The index, published, once the files are in place and those that are gone are removed. Killed in
    between, the index speaks of no file that is not as it says."""
    item = copied.item
    path = item.shelf.path
    if index.find(path) and item.actions:
        index = index.forget(path, [action.path for action in item.actions])
        destination.publish(index)
    if item.to_delete:
        destination.remove(path, [action.path for action in item.to_delete])
    git = _git_digests(copied)
    stamps = destination.take_in(path, list(copied.files))
    arrived = [_held_file(file, git, stamps) for file in copied.files.values()]
    index = index.put(_held(copied, index.find(path), arrived))
    destination.publish(index)
    destination.clear(path)
    return index


def take_out(held: Held, index: Index, destination: Destination) -> Index:
    """The index, published, without a release that is gone. Killed in between, the next apply removes the
    rest."""
    destination.publish(index.forget(held.path, [file.path for file in held.files]))
    destination.remove(held.path)
    index = index.drop(held.path)
    destination.publish(index)
    return index


def _held(copied: Copied, before: Held | None, arrived: list[HeldFile]) -> Held:
    """before: what the index still says, so its files are those that stay."""
    shelf, snapshot = copied.item.shelf, copied.item.offer.snapshot
    assert snapshot is not None, "nothing is taken in without an offer"
    kept = before.files if before else ()
    vouched = copied.vouched and (not kept or before is None or before.trust == "hub")
    trust: Literal["hub", "first-use"] = "hub" if vouched else "first-use"
    return Held(
        path=shelf.path,
        model=shelf.model,
        format=shelf.format,
        revision=snapshot.revision if _COMMIT.fullmatch(snapshot.revision) else None,
        source=Origin(snapshot.hub, snapshot.repo, snapshot.revision),
        trust=trust,
        names=shelf.names,
        files=tuple(sorted([*kept, *arrived], key=lambda file: file.path)),
    )


def _held_file(file: DownloadedFile, git: Mapping[str, str], stamps: Mapping[str, str]) -> HeldFile:
    assert file.size is not None and file.sha256 is not None, "a fetched file is known in full"
    return HeldFile(file.path, file.size, file.sha256, git.get(file.path), stamps[file.path])


def _git_digests(copied: Copied) -> dict[str, str]:
    """Of the small files on the stage: another hub may know them by nothing else."""
    stage = copied.stage or Path()
    small = [file.path for file in copied.files.values() if (file.size or 0) <= _SMALL]
    return {path: git_blob_sha1((stage / path).read_bytes()) for path in small}
