"""Which files of a sharded checkpoint make it up: by its index where that is right, else by their headers.

An index is a help to find tensors quickly. Where it names other files or tensors than lie there, the headers
decide, and the index serves to name what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from converters.containers.container import StoredFile
from converters.errors import IntegrityError, UsageError, parameter
from converters.formats.folder import Folder

SHARD = re.compile(
    r"(?P<base>.+)-(?P<number>[0-9]{1,9})-of-(?P<count>[0-9]{1,9})\.(?P<suffix>safetensors|bin|pt|pth)"
)
SPARSE = 64
"""Files that names may stand for, for each that is there: what a name says costs no more than this."""
INDEX = ".index.json"
COMPUTED = ".inv_freq"
"""How the names of buffers end that are computed, and that indexes name although no file holds them."""


Reader = Callable[[str], StoredFile | None]
"""Reads the headers of a file by its name; None if it is damaged, which was noted."""

Files = Mapping[str, StoredFile | None]
Lost = Mapping[str, Sequence[str]]
"""Names of tensors, by the file that the index names for them."""


@dataclass(frozen=True)
class Shards:
    """files: those that make up the checkpoint. wanted: how many should. stale: what is wrong with the index,
    in a sentence; None if nothing is. absent: what says that a file is missing, for when something is."""

    files: tuple[StoredFile, ...]
    wanted: int
    stale: str | None = None
    absent: tuple[IntegrityError, ...] = ()


def shard_groups(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Shards that say that they are of the same number, together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        if match := SHARD.fullmatch(name):
            groups.setdefault((match["base"], match["count"], match["suffix"]), []).append(name)
    return [tuple(group) for group in groups.values()]


def by_index(
    folder: Folder,
    weight_map: Mapping[str, str],
    taken: Sequence[str],
    spare: Sequence[str],
    read: Reader,
    look: Reader,
) -> Shards:
    """The files that an index names, if it is right. If it is stale, the whole set of shards that is there
    instead, or the named files that are there with those that hold what is lacking.

    taken: shards by their names. spare: other files of weights in the same container. look: as `read`, and
    says nothing of damage. Raises UsageError if several sets of shards are whole.
    """
    here = set(folder.names())
    named = sorted(set(weight_map.values()))
    files = {name: read(name) for name in named if name in here}
    gone = [name for name in named if name not in here]
    fault = _gone(gone) if gone else _fault(weight_map, files)
    if fault is None:
        return Shards(_read(files.values()), len(named))
    stale = f"the index is stale: {fault}"
    lost = _lost(weight_map, files)
    if gone and lost and (whole := _whole_group(taken, folder.name)):
        return Shards(_read(map(read, whole)), len(whole), stale)
    for name in (*taken, *spare):
        if name not in files and lost and _helps(look(name), files, lost):
            files[name] = look(name)
            lost = _lost(weight_map, files)
    absent = tuple(_absent(name, len(lost[name]), folder) for name in gone if name in lost)
    return Shards(_read(files.values()), len(files), stale, absent)


def by_headers(folder: Folder, taken: Sequence[str], read: Reader) -> Shards:
    """All files of a set that has no index."""
    numbered = [name for name in taken if SHARD.fullmatch(name)]
    whole = _whole_group(numbered, folder.name)
    files = whole or taken
    indexed = any(name.endswith(INDEX) for name in folder.names())
    stale = "there are several shards and no index" if len(files) > 1 and not indexed else None
    absent = () if whole else tuple(_unnumbered(numbered, folder))
    return Shards(_read(map(read, files)), len(files), stale, absent)


def notes_on_nested(files: Iterable[StoredFile | None]) -> tuple[str, ...]:
    """Notes of state dicts that lie deeper in their files."""
    under = {file.under: file.name for file in files if file and file.under}
    return tuple(
        f"the weights are what {name} holds under {key!r}; what lies beside that is left aside"
        for key, name in under.items()
    )


def _read(files: Iterable[StoredFile | None]) -> tuple[StoredFile, ...]:
    return tuple(sorted((file for file in files if file), key=lambda file: file.name))


def _gone(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"it names {names[0]}{more}, which {'are' if more else 'is'} not there"


def _fault(weight_map: Mapping[str, str], files: Files) -> str | None:
    """The first thing that is not as the index has it, in files that could be read."""
    held = {(name, file.name) for file in files.values() if file for name in file.tensors}
    named = {(name, file) for name, file in weight_map.items() if files.get(file)}
    for name, file in sorted(named - held):
        return f"it says that {name} is in {file}, and it is not"
    for name, file in sorted(held - named):
        if name not in weight_map:
            return f"{file} holds {name}, which it does not name"
    return None


def _helps(file: StoredFile | None, files: Files, lost: Lost) -> bool:
    """Whether it holds what is lacking, and nothing that is there."""
    if file is None:
        return False
    held = {name for other in files.values() if other for name in other.tensors}
    lacking = {name for names in lost.values() for name in names}
    return held.isdisjoint(file.tensors) and not lacking.isdisjoint(file.tensors)


def _whole_group(names: Sequence[str], where: str) -> tuple[str, ...]:
    """The shards 1 to N of N, if they are all there; empty if not. Raises UsageError for two such sets."""
    groups: dict[str, list[str]] = {}
    for name in names:
        if match := SHARD.fullmatch(name):
            groups.setdefault(match["count"], []).append(name)
    whole = [tuple(group) for count, group in groups.items() if not _missing_numbers(group)]
    if len(whole) > 1:
        spoken = " and ".join(f"{group[0]} ({len(group)} files)" for group in whole)
        raise UsageError(
            f"its index is stale, and there are two whole sets of shards: {spoken}",
            where,
            f"say which is meant: {parameter('weights', whole[0][0])} or {parameter('weights', whole[1][0])}",
        )
    return whole[0] if whole else ()


def _missing_numbers(names: Sequence[str]) -> Sequence[str]:
    """Names of the shards that are not there, of the number that the others say; not all, if most are not."""
    matches = [match for name in names if (match := SHARD.fullmatch(name))]
    present = {int(match["number"]) for match in matches}
    return [
        f"{match['base']}-{number:0{len(match['number'])}d}-of-{match['count']}.{match['suffix']}"
        for match in matches[:1]
        for number in range(1, min(int(match["count"]), SPARSE * len(matches)) + 1)
        if number not in present
    ]


def _lost(weight_map: Mapping[str, str], files: Files) -> Lost:
    """Tensors that the index names and no file holds."""
    held = {name for file in files.values() if file for name in file.tensors}
    damaged = {name for name, file in files.items() if file is None}
    lost: dict[str, list[str]] = {}
    for name, file in weight_map.items():
        if name not in held and file not in damaged and not name.endswith(COMPUTED):
            lost.setdefault(file, []).append(name)
    return lost


def _absent(name: str, tensors: int, folder: Folder) -> IntegrityError:
    held = "the tensor" if tensors == 1 else f"the {tensors} tensors"
    what = f"the index names {name}, which is not there, and no other file holds {held} that should be in it"
    return IntegrityError(what, folder.name, f"fetch {name}")


def _unnumbered(names: Sequence[str], folder: Folder) -> Iterator[IntegrityError]:
    """By the names of those that are there."""
    first = next(filter(None, map(SHARD.fullmatch, names)), None)
    if first and int(first["count"]) > SPARSE * len(names):
        here = f"{len(names):,} of them {'is' if len(names) == 1 else 'are'} there"
        what = f"its name is of one of {int(first['count']):,} files, and {here}"
        yield IntegrityError(what, folder.where(first[0]), "fetch the others")
        return
    for name in _missing_numbers(names):
        what = f"{name} is missing, by the numbers of the others"
        yield IntegrityError(what, folder.name, f"fetch {name}")
