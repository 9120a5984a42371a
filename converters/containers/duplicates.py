"""Tensors that several files of one checkpoint hold: taken once if they are the same, else refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

from converters.containers.container import StoredFile
from converters.errors import IntegrityError
from converters.formats.bytesource import chunks
from converters.formats.folder import Folder
from converters.formats.tensors import StoredTensor


def once(
    folder: Folder, files: Sequence[StoredFile], wrong: Callable[[IntegrityError], None]
) -> tuple[tuple[StoredFile, ...], tuple[str, ...]]:
    """The files with every tensor in one of them, the first that holds it; and what is said of the others.

    wrong: told of a tensor whose values, shape or element type differ.
    """
    first: dict[str, StoredFile] = {}
    kept, dropped = [], []
    for file in files:
        again = [name for name in file.tensors if name in first]
        for name in again:
            if not same(folder, *((one, one.tensors[name]) for one in (first[name], file))):
                wrong(_differing(name, first[name], file))
        own = {name: tensor for name, tensor in file.tensors.items() if name not in first}
        first |= dict.fromkeys(own, file)
        kept.append(replace(file, tensors=own) if again else file)
        dropped += [f"{name} in {file.name}" for name in again]
    return tuple(kept), (_note(dropped),) if dropped else ()


def _note(dropped: Sequence[str]) -> str:
    more = f" and {len(dropped) - 1} more" if len(dropped) > 1 else ""
    return f"stored twice with equal values, and taken once: {dropped[0]}{more}"


def _differing(name: str, one: StoredFile, other: StoredFile) -> IntegrityError:
    what = f"{name} is in {one.name} and in {other.name}, with other values: the files are of two checkpoints"
    fix = "keep the files of one save in a folder of their own, and convert that"
    return IntegrityError(what, other.where, fix)


def same(folder: Folder, *pair: tuple[StoredFile, StoredTensor]) -> bool:
    """Whether two tensors of a folder are alike and hold the same bytes, each without gaps."""
    (one, mine), (other, its) = pair
    if (mine.dtype, mine.shape, mine.strides) != (its.dtype, its.shape, its.strides) or not mine.contiguous:
        return False
    with closing(folder.open(one.name)) as a, closing(folder.open(other.name)) as b:
        parts = (chunks(a, mine.offset, mine.nbytes), chunks(b, its.offset, its.nbytes))
        return all(one == other for one, other in zip(*parts, strict=True))
