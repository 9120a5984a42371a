"""Runs the copies of target tensors, block by block, in memory that does not grow with the checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from converters.blocks import BLOCK, blocks_of
from converters.cells import Cell
from converters.checkpoint import Checkpoint
from converters.errors import IntegrityError, UsageError
from converters.formats.tensors import ELEMENT_TYPES, Span, contiguous_strides
from converters.gather import Block, Bytes, Sources, gather
from converters.pieces import Piece, volume
from converters.rows import normalise_rows

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Stream:
    """Reads target tensors out of a checkpoint. normalised: logical tensors whose rows get length one."""

    source: Checkpoint
    files: Sources
    normalised: frozenset[str]

    def tensor(self, cell: Cell, span: Span, limit: int = BLOCK) -> Iterator[tuple[Block, Bytes]]:
        """The bytes of a target tensor in order, at most `limit` at a time; each array is good until the
        next.
        """
        itemsize = ELEMENT_TYPES[span.dtype].itemsize
        buffer = np.empty(0, np.uint8)
        for block in blocks_of(cell, span, limit):
            if len(buffer) < block.nbytes:
                buffer = np.empty(block.nbytes, np.uint8)
            out = buffer[: block.nbytes]
            gather(block, self.source.tensors[block.logical].pieces, itemsize, self.files, out)
            yield block, self._treated(block, out, span.dtype)

    def _treated(self, block: Block, data: Bytes, dtype: str) -> Bytes:
        if block.logical not in self.normalised:
            return data
        return normalise_rows(data, dtype, self.source.sizes["hidden"])


def check_replicas(source: Checkpoint, files: Sources) -> None:
    """Raises IntegrityError naming the rank whose copy of a replicated tensor differs from the first
    rank's.
    """
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


def _read(piece: Piece, itemsize: int, files: Sources) -> bytes:
    """The whole piece in canonical order."""
    steps = contiguous_strides(tuple(stop - start for start, stop in piece.box))
    out = np.empty(volume(piece.box) * itemsize, np.uint8)
    block = Block(piece.tensor, piece.box, 0, len(out), tuple(itemsize * step for step in steps))
    gather(block, [piece], itemsize, files, out)
    return out.tobytes()


def default_workers() -> int:
    return min(os.cpu_count() or 1, 4)


def in_parallel(work: Callable[[T], R], items: Sequence[T], workers: int | None) -> list[R]:
    """`work` on every item, results in order. The first error cancels what has not begun, and is raised."""
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers can do nothing", "--workers", "give 1 or more")
    with ThreadPoolExecutor(workers or default_workers()) as pool:
        try:
            return list(pool.map(work, items))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
