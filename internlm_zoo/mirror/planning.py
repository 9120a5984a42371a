"""What there is to do to make a mirror hold what is wanted. Pure: values in, values out; nothing is asked or
touched.

A release is replaced only by what the first hub that answers has. If the hub it came from is silent now and
the next one has something else, it stays as it is: a mirror that follows whichever hub is up today is no
mirror. And nothing is replaced or removed that lay there before the mirror.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    seen: Mapping[str, LocalState],
    rules: Policy,
) -> MirrorPlan:
    """offers, seen: by path."""
    items = tuple(
        plan_item(shelf, offers[shelf.path], index.find(shelf.path), seen[shelf.path], rules)
        for shelf in wanted.shelves
    )
    paths = {shelf.path for shelf in wanted.shelves}
    unwanted = tuple(
        UnwantedRelease(held, seen[held.path], tuple(_leaving(held, seen[held.path], rules)))
        for held in index.releases
        if held.path not in paths
    )
    return MirrorPlan(items, unwanted, wanted.left_out, rules.prune)


def plan_item(
    shelf: MirrorEntry, offer: HubOffer, held: IndexedRelease | None, seen: LocalState, rules: Policy
) -> PlannedRelease:
    """What to do about one shelf."""
    snapshot = offer.snapshot
    if snapshot is None:
        return PlannedRelease(
            shelf, offer, held, seen, tuple(_repairs(held, seen)), problem=_nobody(offer.failures)
        )
    offered = [file for file in snapshot.files if rules.choice.wants(file.path)]
    if not offered:
        return PlannedRelease(shelf, offer, held, seen, problem=_nothing_chosen(snapshot))
    every = tuple(_actions(snapshot, offered, held, seen, rules))
    actions = tuple(action for action in every if action.stays or rules.narrow.wants(action.path))
    moved = [action.path for action in every if action.why in ("behind", "gone")]
    if moved and held and (error := offer.failures.get(held.source.hub)):
        return PlannedRelease(shelf, offer, held, seen, problem=_other_files(error, snapshot))
    if strange := [*_in_the_way(actions, [it.path for it in offered if rules.narrow.wants(it.path)], held)]:
        return PlannedRelease(shelf, offer, held, seen, problem=_not_ours(strange, snapshot))
    if mixed := [path for path in moved if not rules.narrow.wants(path)]:
        problem = None if all(action.stays for action in actions) else _mixed(mixed)
        return PlannedRelease(shelf, offer, held, seen, problem=problem)
    return PlannedRelease(shelf, offer, held, seen, actions, relabel=_is_relabelled(shelf, snapshot, held))


def replan(item: PlannedRelease, offer: HubOffer, error: ZooError, rules: Policy) -> PlannedRelease:
    """The same for what the next hub has, after the one of the plan failed. What goes was planned: what the
    next hub lacks besides is a problem."""
    again = plan_item(item.shelf, offer, item.held, item.seen, rules)
    more = {action.path for action in again.to_delete} - {action.path for action in item.to_delete}
    if more and offer.snapshot is not None:
        return PlannedRelease(
            item.shelf, offer, item.held, item.seen, problem=_other_files(error, offer.snapshot)
        )
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


def strangers(seen: LocalState) -> tuple[str, ...]:
    """What lies in the folder of a release that the mirror is about to begin, and is not of it."""
    return tuple(sorted(seen.files.keys() - seen.right.keys()))


def _actions(
    snapshot: Snapshot, offered: Iterable[File], held: IndexedRelease | None, seen: LocalState, rules: Policy
) -> Iterator[Action]:
    known = {file.path: file for file in held.files} if held else {}
    from_here = _same_source(snapshot, held)
    for file in offered:
        why = _why(file, known.get(file.path), from_here, seen)
        if why == "here":
            yield Action("keep", file.path, why, file.size)
        elif why:
            kind: Kind = "update" if file.path in seen.files else "copy"
            yield Action(kind, file.path, why, file.size, fetch=file.size)
    chosen, there = {file.path for file in offered}, {file.path for file in snapshot.files}
    for path in (path for path in known if path not in chosen):
        if path in there:
            yield Action("delete" if rules.prune else "keep", path, "unchosen", _size(path, seen))
        else:
            yield Action("delete", path, "gone", _size(path, seen))
    for path in sorted(seen.files.keys() - chosen - known.keys()):
        yield _stray(path, held, seen, rules)


def _leaving(held: IndexedRelease, seen: LocalState, rules: Policy) -> Iterator[Action]:
    known = {file.path for file in held.files}
    for path in sorted(seen.files):
        if path in known:
            yield Action("delete" if rules.prune else "keep", path, "unwanted", _size(path, seen))
        else:
            yield _stray(path, held, seen, rules)


def _stray(path: str, held: IndexedRelease | None, seen: LocalState, rules: Policy) -> Action:
    """What the mirror did not put there stays, if it was there first."""
    if _is_found(path, held):
        return Action("keep", path, "found", _size(path, seen))
    return Action("delete" if rules.prune else "keep", path, "extra", _size(path, seen))


def _in_the_way(
    actions: Iterable[Action], wanted: Iterable[str], held: IndexedRelease | None
) -> Iterator[str]:
    """What lies where a wanted file, or a folder of it, is to be, and is not for us to remove."""
    staying = {action.path for action in actions if action.stays}
    yield from (it.path for it in actions if it.why == "unknown" and _is_found(it.path, held))
    if staying:
        wanted = set(wanted)
        folders = {parent for path in wanted for parent in _above(path)}
        yield from sorted(path for path in staying if path in folders or not wanted.isdisjoint(_above(path)))


def _above(path: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(path).parents]


def _is_found(path: str, held: IndexedRelease | None) -> bool:
    return held is None or path in held.found


def _size(path: str, seen: LocalState) -> int:
    return seen.files[path].size if path in seen.files else 0


def _repairs(held: IndexedRelease | None, seen: LocalState) -> Iterator[Action]:
    """What is known to be wrong even while no hub can be asked."""
    for file in held.files if held else ():
        if file.path in seen.missing:
            yield Action("copy", file.path, "missing", file.size)
        elif file.path in seen.damaged:
            yield Action("update", file.path, "damaged", file.size)


def _why(file: File, ours: IndexedFile | None, same_source: bool, seen: LocalState) -> Why | None:
    """What is the matter with a file that the hub has; None if nothing. ours: what the index says of it."""
    right = seen.right.get(file.path)
    if right is not None and same(file, right, False):
        return "here"
    if ours is None:
        return "unknown" if file.path in seen.files else "absent"
    if not same(file, ours, same_source):
        return "behind"
    if file.path in seen.missing:
        return "missing"
    return "damaged" if file.path in seen.damaged else None


def _same_source(snapshot: Snapshot, held: IndexedRelease | None) -> bool:
    here = (snapshot.hub, snapshot.repo, snapshot.revision)
    return held is not None and (held.source.hub, held.source.repo, held.source.revision) == here


def _is_relabelled(shelf: MirrorEntry, snapshot: Snapshot, held: IndexedRelease | None) -> bool:
    """A hub that stands in for the one a release came from does not rename it."""
    if held is None:
        return False
    moved = held.source.hub == snapshot.hub and not _same_source(snapshot, held)
    return moved or held.names != shelf.names


def _nobody(failures: Mapping[str, ZooError]) -> ZooError:
    return most_severe(failures.values())(f"no hub has it: {'; '.join(reasons(failures))}")


def _other_files(error: ZooError, snapshot: Snapshot) -> ZooError:
    stays = f"{snapshot.hub} has other files, so the release stays as it is"
    return type(error)(f"{error.what}; {stays}", error.where, error.fix)


def _not_ours(paths: list[str], snapshot: Snapshot) -> ZooError:
    what = f"{_named(paths)} is in the way of what {snapshot.hub} has, and not the mirror's to replace"
    return UsageError(f"{what}: move it elsewhere, and apply again")


def _mixed(paths: list[str]) -> ZooError:
    what = f"{_named(paths)} moved on the hub as well, and files of two revisions are never mixed"
    return UsageError(f"{what}: apply without choosing files")


def _nothing_chosen(snapshot: Snapshot) -> ZooError:
    names = ", ".join(file.path for file in snapshot.files[:_NAMED])
    return NotFoundError(f"include and exclude choose none of its files; {snapshot.hub} has {names}, ...")


def _named(paths: list[str]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return f"{', '.join(paths[:_NAMED])}{more}"
