"""What a mirror is planned in: what the hubs offer, what lies there, and what becomes of each file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from internlm_zoo.downloads.selection import Selection
from internlm_zoo.errors import ZooError
from internlm_zoo.mirror.entries import MirrorEntry
from internlm_zoo.sources.base import Snapshot
from internlm_zoo.store.mirror_index import IndexedFile, IndexedRelease

Kind = Literal["copy", "update", "delete", "keep"]
Why = Literal[
    "absent",
    "missing",
    "damaged",
    "behind",
    "unknown",
    "gone",
    "extra",
    "unchosen",
    "unwanted",
    "found",
    "here",
    "touched",
]


@dataclass(frozen=True)
class HubOffer:
    """What the hubs have for an entry. snapshot: of the first that answers. failures: hub -> why it does
    not."""

    snapshot: Snapshot | None
    failures: Mapping[str, ZooError] = field(default_factory=dict)


@dataclass(frozen=True)
class ExistingFile:
    """A file as it lies at the destination. size in bytes. stamp: see IndexedFile."""

    size: int
    stamp: str


@dataclass(frozen=True)
class LocalState:
    """How a release is at the destination. files: all that lies in its folder. damaged, missing: of those
    that the index speaks of. right: files that are what the hub lists, of which the index says nothing or
    something else."""

    files: Mapping[str, ExistingFile] = field(default_factory=dict)
    damaged: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    right: Mapping[str, IndexedFile] = field(default_factory=dict)

    def size(self, path: str) -> int:
        """Bytes of a file; 0 where none lies there."""
        return self.files[path].size if path in self.files else 0


@dataclass(frozen=True)
class Policy:
    """prune: remove what nobody asks for. choice: the files that releases are to have, by the mirror file.
    narrow: those that this run is about."""

    prune: bool
    choice: Selection
    narrow: Selection


@dataclass(frozen=True)
class Action:
    """What becomes of one file. Of files to keep, only those are named that nobody asks for, and those that
    are new to the index.

    why: absent (never copied), missing (was here), damaged (here, but not what it was), behind (the hub
    has another one), unknown (the index does not know what lies there), gone (the hub has none any more),
    extra (came into a release from elsewhere), unchosen (`include` and `exclude` leave it out), unwanted (of
    a release that is not asked for), found (lay there before the mirror, whose it is not), here (lay there,
    and is what the hub has), touched (was to go, and was written to meanwhile). size: bytes of the file as it
    will be, or of one to delete or keep as it is; None if the hub does not say. fetch: bytes of it to come
    from hubs; the others are on this machine. taken_from: where, if it is another file."""

    kind: Kind
    path: str
    why: Why
    size: int | None = None
    fetch: int | None = 0
    taken_from: str | None = None

    @property
    def stays(self) -> bool:
        """Whether nothing is done about the file."""
        return self.kind == "keep" and self.why != "here"


@dataclass(frozen=True)
class FileCount:
    """So many files, of so many bytes; unsized: how many of them the bytes do not count, for no hub says
    their size."""

    files: int = 0
    bytes: int = 0
    unsized: int = 0

    def __add__(self, other: FileCount) -> FileCount:
        return FileCount(self.files + other.files, self.bytes + other.bytes, self.unsized + other.unsized)


@dataclass(frozen=True)
class FileCounts:
    """What becomes of files. copy: to where none lies; update: in the place of one that differs, with the
    bytes of the new ones; delete, keep: with the bytes of those that lie there. here: all that lie there
    before."""

    copy: FileCount = FileCount()
    update: FileCount = FileCount()
    delete: FileCount = FileCount()
    keep: FileCount = FileCount()
    here: FileCount = FileCount()

    def __add__(self, other: FileCounts) -> FileCounts:
        return FileCounts(*(getattr(self, it.name) + getattr(other, it.name) for it in fields(self)))


@dataclass(frozen=True)
class PlannedRelease:
    """One entry: what to do, and what is in the way of it; with a problem nothing is done, and the actions
    say what is known to be wrong. relabel: the files are right, but the index calls them by an old revision
    or lacks a name."""

    entry: MirrorEntry
    offer: HubOffer
    indexed: IndexedRelease | None
    on_disk: LocalState
    actions: tuple[Action, ...] = ()
    relabel: bool = False
    problem: ZooError | None = None

    @property
    def acts(self) -> bool:
        return not all(action.stays for action in self.actions)

    @property
    def changes(self) -> bool:
        return self.relabel or self.acts

    @property
    def to_fetch(self) -> tuple[Action, ...]:
        return tuple(action for action in self.actions if action.kind in ("copy", "update"))

    @property
    def to_delete(self) -> tuple[Action, ...]:
        return tuple(action for action in self.actions if action.kind == "delete")

    @property
    def counts(self) -> FileCounts:
        return _counts_of(() if self.problem else self.actions, self.on_disk)


@dataclass(frozen=True)
class UnwantedRelease:
    """A release that is held and not asked for, and what becomes of its files."""

    indexed: IndexedRelease
    on_disk: LocalState
    actions: tuple[Action, ...]

    @property
    def counts(self) -> FileCounts:
        return _counts_of(self.actions, self.on_disk)


@dataclass(frozen=True)
class MirrorPlan:
    """prune: whether what nobody asks for goes."""

    items: tuple[PlannedRelease, ...]
    unwanted: tuple[UnwantedRelease, ...]
    left_out: tuple[str, ...]
    prune: bool

    @property
    def changes(self) -> bool:
        return any(item.changes for item in self.items) or self.prunes

    @property
    def prunes(self) -> bool:
        return self.prune and bool(self.unwanted)

    @property
    def counts(self) -> FileCounts:
        parts = [*(item.counts for item in self.items), *(it.counts for it in self.unwanted)]
        return sum(parts, FileCounts())


def _counts_of(actions: Iterable[Action], on_disk: LocalState) -> FileCounts:
    sizes: dict[Kind, dict[str, int | None]] = {"copy": {}, "update": {}, "delete": {}}
    for action in actions:
        if action.kind in sizes and (action.kind != "delete" or action.path in on_disk.files):
            sizes[action.kind][action.path] = action.size
    here = {path: existing.size for path, existing in on_disk.files.items()}
    kept = here.keys() - sizes["update"].keys() - sizes["delete"].keys()
    changed = {kind: _count_of(of_kind.values()) for kind, of_kind in sizes.items()}
    return FileCounts(**changed, keep=_count_of(map(here.get, kept)), here=_count_of(here.values()))


def _count_of(sizes: Iterable[int | None]) -> FileCount:
    sizes = tuple(sizes)
    return FileCount(len(sizes), sum(size or 0 for size in sizes), sizes.count(None))
