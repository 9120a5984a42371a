"""What there is to do to make a mirror hold what is wanted. Pure: values in, values out; nothing is asked or
touched.

A release is replaced only by what the first hub that answers has. If the hub it came from is silent now and
the next one has something else, it stays as it is: a mirror that follows whichever hub is up today is no
mirror. And nothing is replaced or removed that lay there before the mirror.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from internlm_zoo.errors import NotFoundError, UsageError, ZooError, most_severe
from internlm_zoo.files import File
from internlm_zoo.mirror.entries import MirrorEntries, MirrorEntry
from internlm_zoo.mirror.values import (
    Action,
    HubOffer,
    Kind,
    LocalState,
    MirrorPlan,
    PlannedRelease,
    Policy,
    UnwantedRelease,
    Why,
)
from internlm_zoo.sources.base import Snapshot
from internlm_zoo.store.mirror_index import Index, IndexedFile, IndexedRelease

_NAMED = 3


def make_plan(
    wanted: MirrorEntries,
    offers: Mapping[str, HubOffer],
    index: Index,
    on_disk: Mapping[str, LocalState],
    policy: Policy,
) -> MirrorPlan:
    """offers, on_disk: by path."""
    items = (
        PlannedRelease(entry, offers[entry.path], index.find(entry.path), on_disk[entry.path])
        for entry in wanted.entries
    )
    paths = {entry.path for entry in wanted.entries}
    unwanted = (indexed for indexed in index.releases if indexed.path not in paths)
    return MirrorPlan(
        tuple(_planned(item, policy) for item in items),
        tuple(_unwanted(indexed, on_disk[indexed.path], policy) for indexed in unwanted),
        wanted.left_out,
        policy.prune,
    )


def _planned(plan: PlannedRelease, policy: Policy) -> PlannedRelease:
    """plan: without anything to do yet."""
    offer, indexed = plan.offer, plan.indexed
    snapshot = offer.snapshot
    if snapshot is None:
        repairs = tuple(_repairs(indexed, plan.on_disk))
        return replace(plan, actions=repairs, problem=_no_hub(offer.failures))
    offered = [file for file in snapshot.files if policy.choice.wants(file.path)]
    if not offered:
        return replace(plan, problem=_nothing_chosen(snapshot))
    every = tuple(_actions(plan, snapshot, offered, policy))
    actions = tuple(action for action in every if action.stays or policy.narrow.wants(action.path))
    moved = [action.path for action in every if action.why in ("behind", "gone")]
    if moved and indexed and (error := offer.failures.get(indexed.source.hub)):
        return replace(plan, problem=_other_files(error, snapshot))
    wanted = [file.path for file in offered if policy.narrow.wants(file.path)]
    if foreign := [*_in_the_way(actions, wanted, indexed)]:
        return replace(plan, problem=_not_ours(foreign, snapshot))
    if mixed := [path for path in moved if not policy.narrow.wants(path)]:
        acts = not all(action.stays for action in actions)
        return replace(plan, problem=_mixed_revisions(mixed) if acts else None)
    return replace(plan, actions=actions, relabel=_is_relabelled(plan.entry, snapshot, indexed))


def replan(item: PlannedRelease, offer: HubOffer, error: ZooError, policy: Policy) -> PlannedRelease:
    """The same for what the next hub has, after the one of the plan failed. What goes was planned: what the
    next hub lacks besides is a problem."""
    again = _planned(PlannedRelease(item.entry, offer, item.indexed, item.on_disk), policy)
    more = {action.path for action in again.to_delete} - {action.path for action in item.to_delete}
    if more and offer.snapshot is not None:
        return replace(again, actions=(), relabel=False, problem=_other_files(error, offer.snapshot))
    return again


def same(theirs: File, ours: IndexedFile, same_source: bool) -> bool:
    """Whether the hub's file is the one that is held. same_source: hub, repository and revision are those it
    came from; that decides where the hub says nothing about content."""
    if theirs.conflict(ours.content):
        return False
    return same_source or theirs.digests.agree(ours.content.digests)


def reasons(failures: Mapping[str, ZooError]) -> list[str]:
    """Which hub is of no use, and why."""
    return [
        error.what if error.what.startswith(hub) else f"{hub}: {error.what}"
        for hub, error in failures.items()
    ]


def preexisting(on_disk: LocalState) -> tuple[str, ...]:
    """What lies in the folder of a release that the mirror is about to begin, and is not of it."""
    return tuple(sorted(on_disk.files.keys() - on_disk.right.keys()))


def _actions(
    plan: PlannedRelease, snapshot: Snapshot, offered: Iterable[File], policy: Policy
) -> Iterator[Action]:
    indexed, on_disk = plan.indexed, plan.on_disk
    known = indexed.by_path if indexed else {}
    from_here = _same_source(snapshot, indexed)
    for file in offered:
        why = _why(file, known.get(file.path), from_here, on_disk)
        if why == "here":
            yield Action("keep", file.path, why, file.size)
        elif why:
            kind: Kind = "update" if file.path in on_disk.files else "copy"
            yield Action(kind, file.path, why, file.size, fetch=file.size)
    chosen, there = {file.path for file in offered}, {file.path for file in snapshot.files}
    for path in (path for path in known if path not in chosen):
        kind = "delete" if policy.prune or path not in there else "keep"
        yield Action(kind, path, "unchosen" if path in there else "gone", on_disk.size(path))
    for path in sorted(on_disk.files.keys() - chosen - known.keys()):
        yield _unindexed(path, indexed, on_disk, policy)


def _unwanted(indexed: IndexedRelease, on_disk: LocalState, policy: Policy) -> UnwantedRelease:
    kind: Kind = "delete" if policy.prune else "keep"
    actions = (
        Action(kind, path, "unwanted", on_disk.size(path))
        if path in indexed.by_path
        else _unindexed(path, indexed, on_disk, policy)
        for path in sorted(on_disk.files)
    )
    return UnwantedRelease(indexed, on_disk, tuple(actions))


def _unindexed(path: str, indexed: IndexedRelease | None, on_disk: LocalState, policy: Policy) -> Action:
    """What the mirror did not put there stays, if it was there first."""
    if _is_found(path, indexed):
        return Action("keep", path, "found", on_disk.size(path))
    return Action("delete" if policy.prune else "keep", path, "extra", on_disk.size(path))


def _in_the_way(
    actions: Iterable[Action], wanted: Iterable[str], indexed: IndexedRelease | None
) -> Iterator[str]:
    """What lies where a wanted file, or a folder of it, is to be, and is not for us to remove."""
    staying = {action.path for action in actions if action.stays}
    yield from (it.path for it in actions if it.why == "unknown" and _is_found(it.path, indexed))
    if staying:
        wanted = set(wanted)
        folders = {parent for path in wanted for parent in _above(path)}
        yield from sorted(path for path in staying if path in folders or not wanted.isdisjoint(_above(path)))


def _above(path: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(path).parents]


def _is_found(path: str, indexed: IndexedRelease | None) -> bool:
    return indexed is None or path in indexed.found


def _repairs(indexed: IndexedRelease | None, on_disk: LocalState) -> Iterator[Action]:
    """What is known to be wrong even while no hub can be asked."""
    for file in indexed.files if indexed else ():
        if file.path in on_disk.missing:
            yield Action("copy", file.path, "missing", file.size)
        elif file.path in on_disk.damaged:
            yield Action("update", file.path, "damaged", file.size)


def _why(file: File, ours: IndexedFile | None, same_source: bool, on_disk: LocalState) -> Why | None:
    """What is the matter with a file that the hub has; None if nothing. ours: what the index says of it."""
    right = on_disk.right.get(file.path)
    if right is not None and same(file, right, False):
        return "here"
    if ours is None:
        return "unknown" if file.path in on_disk.files else "absent"
    if not same(file, ours, same_source):
        return "behind"
    if file.path in on_disk.missing:
        return "missing"
    return "damaged" if file.path in on_disk.damaged else None


def _same_source(snapshot: Snapshot, indexed: IndexedRelease | None) -> bool:
    here = (snapshot.hub, snapshot.repo, snapshot.revision)
    return indexed is not None and (indexed.source.hub, indexed.source.repo, indexed.source.revision) == here


def _is_relabelled(entry: MirrorEntry, snapshot: Snapshot, indexed: IndexedRelease | None) -> bool:
    """A hub that stands in for the one a release came from does not rename it."""
    if indexed is None:
        return False
    moved = indexed.source.hub == snapshot.hub and not _same_source(snapshot, indexed)
    return moved or indexed.names != entry.names


def _no_hub(failures: Mapping[str, ZooError]) -> ZooError:
    return most_severe(failures.values())(f"no hub has it: {'; '.join(reasons(failures))}")


def _other_files(error: ZooError, snapshot: Snapshot) -> ZooError:
    stays = f"{snapshot.hub} has other files, so the release stays as it is"
    return type(error)(f"{error.what}; {stays}", error.where, error.fix)


def _not_ours(paths: list[str], snapshot: Snapshot) -> ZooError:
    what = f"{_named(paths)} is in the way of what {snapshot.hub} has, and not the mirror's to replace"
    return UsageError(f"{what}: move it elsewhere, and apply again")


def _mixed_revisions(paths: list[str]) -> ZooError:
    what = f"{_named(paths)} moved on the hub as well, and files of two revisions are never mixed"
    return UsageError(f"{what}: apply without choosing files")


def _nothing_chosen(snapshot: Snapshot) -> ZooError:
    names = ", ".join(file.path for file in snapshot.files[:_NAMED])
    return NotFoundError(f"include and exclude choose none of its files; {snapshot.hub} has {names}, ...")


def _named(paths: list[str]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return f"{', '.join(paths[:_NAMED])}{more}"
