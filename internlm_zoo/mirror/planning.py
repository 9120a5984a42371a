"""What there is to do to make a mirror hold what is wanted. Pure: values in, values out; nothing is asked or
touched.

A release is replaced only by what the first hub that answers has. If the hub it came from is silent now and
the next one has something else, it stays as it is: a mirror that follows whichever hub is up today is no
mirror.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from internlm_zoo.errors import ZooError
from internlm_zoo.mirror.index import Held, HeldFile, Index
from internlm_zoo.mirror.wanted import Shelf, Wanted
from internlm_zoo.sources.base import RemoteFile, Snapshot
from internlm_zoo.transfer.refusal import gravest

Kind = Literal["copy", "change", "delete"]
Why = Literal["absent", "missing", "damaged", "behind", "gone", "extra"]


@dataclass(frozen=True)
class Offer:
    """What the hubs have for a shelf. snapshot: of the first that answers. failures: hub -> why it does
    not."""

    snapshot: Snapshot | None
    failures: Mapping[str, ZooError] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """How the files of a release are at the destination. extra: files that the index does not know."""

    damaged: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    extra: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Action:
    """why: absent (never copied), missing (was here), damaged (here, but not what it was), behind (the hub
    has another one), gone (the hub has none any more), extra (nobody knows it). size: bytes to fetch, None if
    unknown."""

    kind: Kind
    path: str
    why: Why
    size: int | None = None


@dataclass(frozen=True)
class Item:
    """One shelf: what to do, and what is in the way of it. relabel: the files are right, but the index calls
    them by an old revision or lacks a name."""

    shelf: Shelf
    offer: Offer
    held: Held | None
    actions: tuple[Action, ...] = ()
    relabel: bool = False
    problem: ZooError | None = None

    @property
    def changes(self) -> bool:
        return bool(self.actions) or self.relabel

    @property
    def to_fetch(self) -> tuple[Action, ...]:
        return tuple(action for action in self.actions if action.kind != "delete")

    @property
    def to_delete(self) -> tuple[Action, ...]:
        return tuple(action for action in self.actions if action.kind == "delete")


@dataclass(frozen=True)
class Plan:
    """unwanted: releases that are held and not asked for; they go if prune."""

    items: tuple[Item, ...]
    unwanted: tuple[Held, ...]
    left_out: tuple[str, ...]
    prune: bool

    @property
    def changes(self) -> bool:
        return any(item.changes for item in self.items) or self.prunes

    @property
    def prunes(self) -> bool:
        return self.prune and bool(self.unwanted)


def make_plan(
    wanted: Wanted, offers: Mapping[str, Offer], index: Index, seen: Mapping[str, Seen], prune: bool
) -> Plan:
    """offers, seen: by path. prune: remove unwanted releases and unknown files too."""
    items = tuple(
        plan_item(shelf, offers[shelf.path], index.find(shelf.path), seen[shelf.path], prune)
        for shelf in wanted.shelves
    )
    paths = {shelf.path for shelf in wanted.shelves}
    unwanted = tuple(held for held in index.releases if held.path not in paths)
    return Plan(items, unwanted, wanted.left_out, prune)


def plan_item(shelf: Shelf, offer: Offer, held: Held | None, seen: Seen, prune: bool) -> Item:
    """What to do about one shelf."""
    if offer.snapshot is None:
        return Item(shelf, offer, held, tuple(_repairs(held, seen)), problem=_nobody(offer.failures))
    actions = tuple(_actions(offer.snapshot, held, seen, prune))
    if (
        held
        and held.source.hub in offer.failures
        and any(action.why in ("behind", "gone") for action in actions)
    ):
        return Item(shelf, offer, held, problem=_other_files(offer.failures[held.source.hub], offer.snapshot))
    return Item(shelf, offer, held, actions, relabel=_is_relabelled(shelf, offer.snapshot, held))


def same(theirs: RemoteFile, ours: HeldFile, same_source: bool) -> bool:
    """Whether the hub's file is the one that is held. same_source: hub, repository and revision are those it
    came from; that decides where the hub says nothing about content."""
    if theirs.size not in (None, ours.size):
        return False
    if theirs.sha256 is not None:
        return theirs.sha256 == ours.sha256
    if theirs.git_sha1 is not None and ours.git_sha1 is not None:
        return theirs.git_sha1 == ours.git_sha1
    return same_source


def reasons(failures: Mapping[str, ZooError]) -> list[str]:
    """Which hub is of no use, and why."""
    return [
        error.what if error.what.startswith(hub) else f"{hub}: {error.what}"
        for hub, error in failures.items()
    ]


def _actions(snapshot: Snapshot, held: Held | None, seen: Seen, prune: bool) -> Iterator[Action]:
    known = {file.path: file for file in held.files} if held else {}
    from_here = _same_source(snapshot, held)
    for file in snapshot.files:
        why = _why(file, known.get(file.path), from_here, seen)
        if why:
            yield Action("copy" if why in ("absent", "missing") else "change", file.path, why, file.size)
    offered = {file.path for file in snapshot.files}
    yield from (Action("delete", path, "gone") for path in known if path not in offered)
    yield from (Action("delete", path, "extra") for path in sorted(seen.extra - offered if prune else ()))


def _repairs(held: Held | None, seen: Seen) -> Iterator[Action]:
    """What is known to be wrong even while no hub can be asked."""
    for file in held.files if held else ():
        if file.path in seen.missing:
            yield Action("copy", file.path, "missing", file.size)
        elif file.path in seen.damaged:
            yield Action("change", file.path, "damaged", file.size)


def _why(file: RemoteFile, ours: HeldFile | None, same_source: bool, seen: Seen) -> Why | None:
    if ours is None:
        return "absent"
    if not same(file, ours, same_source):
        return "behind"
    if file.path in seen.missing:
        return "missing"
    return "damaged" if file.path in seen.damaged else None


def _same_source(snapshot: Snapshot, held: Held | None) -> bool:
    here = (snapshot.hub, snapshot.repo, snapshot.revision)
    return held is not None and (held.source.hub, held.source.repo, held.source.revision) == here


def _is_relabelled(shelf: Shelf, snapshot: Snapshot, held: Held | None) -> bool:
    """A hub that stands in for the one a release came from does not rename it."""
    if held is None:
        return False
    moved = held.source.hub == snapshot.hub and not _same_source(snapshot, held)
    return moved or held.names != shelf.names


def _nobody(failures: Mapping[str, ZooError]) -> ZooError:
    return gravest(failures.values())(f"no hub has it: {'; '.join(reasons(failures))}")


def _other_files(error: ZooError, snapshot: Snapshot) -> ZooError:
    stays = f"{snapshot.hub} has other files, so the release stays as it is"
    return type(error)(f"{error.what}; {stays}", error.where, error.fix)
