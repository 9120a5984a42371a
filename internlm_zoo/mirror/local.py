"""What of a plan is on this machine already, so that no hub has to send it.

Looked at, in this order: what an earlier run left, other tools' caches and folders of the user's, other
releases of the mirror, the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from internlm_zoo.downloads.plan import PlannedFile
from internlm_zoo.downloads.release import plan_release
from internlm_zoo.files import File
from internlm_zoo.mirror.copying import CopyContext, fetch_arguments
from internlm_zoo.mirror.listings import SourceOptions
from internlm_zoo.mirror.values import Action, PlannedRelease


def look_nearby(
    items: Iterable[PlannedRelease], sources: Mapping[str, SourceOptions], context: CopyContext
) -> Iterator[PlannedRelease]:
    """The items, with what of each file is to be fetched and from where the rest is taken. What one release
    gets, the next can take."""
    coming: dict[str, str] = {}
    for item in items:
        if item.problem is None and item.to_fetch:
            item = _looked(item, sources[item.entry.path], context, coming)
            coming.update(_digests(item))
        yield item


def _looked(
    item: PlannedRelease, source: SourceOptions, context: CopyContext, coming: Mapping[str, str]
) -> PlannedRelease:
    candidate, others, request, session = fetch_arguments(item, source, context)
    planned = {file.path: file for file in plan_release(candidate, others, request, session).files}
    listed = {file.path: file for file in item.offer.snapshot.files} if item.offer.snapshot else {}
    return replace(
        item,
        actions=tuple(
            _known(action, planned[action.path], listed[action.path], coming)
            if action.path in planned
            else action
            for action in item.actions
        ),
    )


def _known(action: Action, planned: PlannedFile, listed: File, coming: Mapping[str, str]) -> Action:
    if planned.source is None:
        return replace(action, fetch=0, taken_from=str(planned.taken_from) if planned.taken_from else None)
    for digest in filter(None, listed.digests):
        if digest in coming:
            return replace(action, fetch=0, taken_from=coming[digest])
    return replace(action, fetch=None if action.size is None else planned.to_fetch)


def _digests(item: PlannedRelease) -> Iterator[tuple[str, str]]:
    """Of what the item gets, with a place to take it from."""
    snapshot, got = item.offer.snapshot, {action.path for action in item.to_fetch}
    for file in snapshot.files if snapshot else ():
        for digest in filter(None, file.digests):
            if file.path in got:
                yield digest, f"{item.entry.path}/{file.path}"
