"""Reads logical tensors block by block, in memory that does not grow with the checkpoint."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from converters.errors import IntegrityError, UsageError
from converters.formats.tensors import ELEMENT_TYPES
from converters.geometry.blocks import BLOCK, Block, block_of, boxes_of
from converters.geometry.cells import Box
from converters.geometry.pieces import Piece, extent_of, extents_of, intersection, runs, volume
from converters.source.checkpoint import Checkpoint
from converters.source.gather import Bytes, Sources, gather
from converters.source.tied import EMBEDDING, HEAD, conflict
from converters.streaming.rows import convert_to, normalise_rows
from converters.system.threads import in_threads

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Stream:
    """Reads the tensors of a checkpoint. normalised: logical tensors whose rows get length one. elements:
    the codes of the types to give some of them in; the others come as they are stored. exact: whether nothing
    but what is wanted is read, for a rank among others."""

    source: Checkpoint
    files: Sources
    normalised: frozenset[str]
    elements: Mapping[str, str] = field(default_factory=dict)
    exact: bool = False

    def dtype_of(self, name: str) -> str:
        return self.elements.get(name, self.source.tensors[name].dtype)

    def read(
        self, name: str, box: Box | None = None, elements: int | None = None
    ) -> Iterator[tuple[Block, Bytes]]:
        """A logical tensor, or a box of it, in canonical order; each array is good until the next.

        elements: of a block, at most; as many as fill BLOCK bytes if None. Raises IntegrityError where the
        stored pieces do not make it up, UnsupportedError for values that the element type cannot hold.
        """
        tensor, whole = self.source.tensors[name], box or self.source.box_of(name)
        stored, wanted = (ELEMENT_TYPES[dtype].itemsize for dtype in (tensor.dtype, self.dtype_of(name)))
        self._expect(tensor.pieces, whole, stored)
        buffer = np.empty(0, np.uint8)
        for part in boxes_of(name, whole, elements or BLOCK // max(stored, wanted)):
            block = block_of(name, part, stored)
            if len(buffer) < block.nbytes:
                buffer = np.empty(block.nbytes, np.uint8)
            out = buffer[: block.nbytes]
            gather(block, tensor.pieces, stored, self.files, out, exact=self.exact)
            yield block_of(name, part, wanted), self._treated(name, out)

    def read_into(self, name: str, box: Box, out: Bytes) -> None:
        """A box of a logical tensor in canonical order, into memory of its size (uint8 [nbytes]): straight
        from the files where they hold it in stretches, else block by block. Raises what `read` does."""
        dtype = self.source.tensors[name].dtype
        if name in self.normalised or self.dtype_of(name) != dtype:
            blocks = (data for _, data in self.read(name, box))
            _join(blocks, out)
            return
        itemsize, pieces = ELEMENT_TYPES[dtype].itemsize, self.source.tensors[name].pieces
        limit = volume(box) if in_stretches(name, box, pieces, itemsize) else BLOCK // itemsize
        start = 0
        for part in boxes_of(name, box, limit):
            block = block_of(name, part, itemsize)
            gather(block, pieces, itemsize, self.files, out[start:], exact=self.exact)
            start += block.nbytes

    def _expect(self, pieces: Sequence[Piece], box: Box, itemsize: int) -> None:
        """Tell the files which ranges will be read as they lie, and which in pieces that others need too."""
        for piece in pieces:
            shared = intersection(box, piece.box)
            if shared is not None:
                offset, length, dense = extent_of(piece, shared, itemsize)
                if dense:
                    self.files[piece.file].expect(offset, length)
                else:
                    self.files[piece.file].keep(*self._extents[piece.file, piece.tensor])

    @cached_property
    def _extents(self) -> Mapping[tuple[str, str], tuple[int, int]]:
        """Offset and length of every stored tensor, by file and name."""
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for tensor in self.source.tensors.values():
            for piece in tensor.pieces:
                offset, length, _ = extent_of(piece, piece.box, ELEMENT_TYPES[tensor.dtype].itemsize)
                first, size = found.get((piece.file, piece.tensor), (offset, length))
                start, end = min(first, offset), max(first + size, offset + length)
                found[piece.file, piece.tensor] = start, end - start
        return found

    def _treated(self, name: str, data: Bytes) -> Bytes:
        stored, wanted = self.source.tensors[name].dtype, self.dtype_of(name)
        if name in self.normalised:
            data = normalise_rows(data, stored, self.source.sizes["hidden"])
        return data if stored == wanted else convert_to(data, stored, wanted, name)


def in_stretches(name: str, box: Box, pieces: Sequence[Piece], itemsize: int) -> bool:
    """Whether what the pieces have of a box lies in their files in the order, and without the gaps, in which
    it is wanted."""
    strides = block_of(name, box, itemsize).strides
    shares = ((piece, intersection(box, piece.box)) for piece in pieces)
    return all(
        len(runs(extents_of(shared), piece.strides, strides, itemsize)) == 1
        for piece, shared in shares
        if shared
    )


def _join(parts: Iterable[Bytes], out: Bytes) -> None:
    start = 0
    for part in parts:
        out[start : start + len(part)] = part
        start += len(part)


def check_replicas(source: Checkpoint, files: Sources, embedding: Box | None = None) -> None:
    """Raises IntegrityError naming the rank whose copy of a replicated tensor differs from the first rank's,
    UsageError naming a head that is stored, said to be the embedding, and is not. embedding: the part of it
    for which that is found out, all of it if None."""
    _prefetch_replicas(source, files)
    for tensor in source.tensors.values():
        itemsize = ELEMENT_TYPES[tensor.dtype].itemsize
        # Replicas of a stage follow the first rank's piece, which is all of the tensor.
        first = _read(tensor.pieces[0], itemsize, files) if tensor.replicas else b""
        for replica in tensor.replicas:
            if _read(replica, itemsize, files) != first:
                raise IntegrityError(
                    f"{replica.tensor} differs between ranks that must hold the same: it is not what "
                    f"{Path(tensor.pieces[0].file).name} holds",
                    replica.file,
                    "one of the files belongs to another checkpoint or is damaged: fetch them again",
                )
    if source.head_again and not _same(source, files, EMBEDDING, HEAD, embedding):
        raise conflict(source.tensors[EMBEDDING].pieces[0], source.tensors[HEAD].pieces[0])


def _same(source: Checkpoint, files: Sources, one: str, other: str, box: Box | None) -> bool:
    """Whether two tensors of one shape hold the same, or a box of them."""
    if source.tensors[one].dtype != source.tensors[other].dtype:
        return False
    stream = Stream(source, files, frozenset(), exact=box is not None)
    blocks = zip(stream.read(one, box), stream.read(other, box), strict=True)
    return all(np.array_equal(a, b) for (_, a), (_, b) in blocks)


def _prefetch_replicas(source: Checkpoint, files: Sources) -> None:
    ranges: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for tensor in source.tensors.values():
        for piece in (*tensor.pieces, *tensor.replicas) if tensor.replicas else ():
            offset, length, _ = extent_of(piece, piece.box, ELEMENT_TYPES[tensor.dtype].itemsize)
            ranges[piece.file].append((offset, length))
    for file, wanted in ranges.items():
        files[file].prefetch(wanted)


def _read(piece: Piece, itemsize: int, files: Sources) -> bytes:
    """The whole piece in canonical order."""
    block = block_of(piece.tensor, piece.box, itemsize)
    out = np.empty(block.nbytes, np.uint8)
    gather(block, [piece], itemsize, files, out)
    return out.tobytes()


def in_parallel(
    work: Callable[[T], R], items: Sequence[T], workers: int | None, stop: Callable[[], None] = lambda: None
) -> list[R]:
    """`work` on every item, results in order. The first error cancels what has not begun, and is raised.

    workers: threads; as many as there are processors, at most 4, if None. stop: has what others have begun
    end soon."""
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers can do nothing", "`workers`", "give 1 or more")
    return in_threads(work, items, workers or min(os.cpu_count() or 1, 4), stop)
