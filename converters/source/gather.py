"""Fill a block from pieces of source files, through small buffers.

Where source and block run on alike the bytes are read straight into place; where they do not, the stretch of
source that holds them is read once, if most of it is wanted, and copied by strides, else cut into parts.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import PurePath
from types import TracebackType

import numpy as np
import numpy.typing as npt

from converters.errors import IntegrityError
from converters.formats.bytesource import ZEROS, ByteSource, Zeros
from converters.formats.folder import Folder
from converters.geometry.blocks import Block
from converters.geometry.pieces import Piece, Run, distance, extents_of, intersection, offset_in, runs, volume

# A stretch of source is read whole if at least one byte in this many is wanted, or if it is short anyway.
SPARSE = 2
SHORT = 16 << 10

Bytes = npt.NDArray[np.uint8]


class Sources:
    """The files of a folder, opened once; a context manager. Reads may come from any thread.

    confirmed: whether leaving it raises IntegrityError for a file that changed meanwhile; otherwise its user
    looks. Where something is wrong with the bytes because of that, it is said instead.
    """

    def __init__(self, folder: Folder, *, confirmed: bool = True) -> None:
        self._folder = folder
        self._confirmed = confirmed
        self._stack = ExitStack()
        self._files: dict[str, ByteSource] = {}
        self._lock = threading.Lock()

    def __getitem__(self, where: str) -> ByteSource:
        """By what a piece calls its file."""
        with self._lock:
            if where not in self._files:
                opened = Zeros() if where == ZEROS else self._folder.open(PurePath(where).name)
                self._files[where] = self._stack.enter_context(closing(opened))
            return self._files[where]

    def __enter__(self) -> Sources:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if isinstance(error, IntegrityError) or (error is None and self._confirmed):
            self._folder.confirm()


def gather(
    block: Block,
    pieces: Sequence[Piece],
    itemsize: int,
    sources: Sources,
    out: Bytes,
    *,
    exact: bool = False,
) -> None:
    """Fill `out` (the block's bytes, uint8 [nbytes]) from the pieces that share elements with it.

    exact: read nothing between what is wanted, or ahead of it, which others read. Raises IntegrityError if
    they do not cover it exactly once.
    """
    filled = 0
    for piece in pieces:
        shared = intersection(block.box, piece.box)
        if shared is None:
            continue
        start = distance(block.box, shared, block.strides)
        levels = runs(extents_of(shared), piece.strides, block.strides, itemsize)
        _copy(sources[piece.file], offset_in(piece, shared), levels, itemsize, out[start:], exact)
        filled += volume(shared) * itemsize
    if filled != block.nbytes:
        raise IntegrityError(f"{filled} of {block.nbytes} bytes of a block have a source", block.logical)


def _copy(
    file: ByteSource, offset: int, levels: Sequence[Run], itemsize: int, out: Bytes, exact: bool
) -> None:
    last = levels[-1]
    if len(levels) == 1 and last.source == last.target == 1:
        if exact:
            file.announce([(offset, last.extent)])
        file.read_into(offset, out.data[: last.extent])
        return
    length = sum((run.extent - 1) * run.source for run in levels) + 1
    wanted = math.prod(run.extent for run in levels)
    if length <= (wanted if exact else max(SPARSE * wanted, SHORT)):
        if exact:
            file.announce([(offset, length)])
        copy_strided(file.read(offset, length), levels, itemsize, out)
        return
    widest = max(range(len(levels) - 1), key=lambda n: levels[n].source * levels[n].extent)
    run, rest = levels[widest], (*levels[:widest], *levels[widest + 1 :])
    if len(rest) == 1 and last.source == last.target == 1:
        if exact:
            file.announce([(offset + n * run.source, last.extent) for n in range(run.extent)])
        _copy_runs(file, offset, run, last.extent, out)
        return
    for n in range(run.extent):
        _copy(file, offset + n * run.source, rest, itemsize, out[n * run.target :], exact)


def _copy_runs(file: ByteSource, offset: int, run: Run, length: int, out: Bytes) -> None:
    """Equally spaced stretches of source that are wanted whole, such as some columns of every row."""
    view = out.data
    for n in range(run.extent):
        at = n * run.target
        file.read_into(offset + n * run.source, view[at : at + length])


def copy_strided(stretch: bytes | Bytes, levels: Sequence[Run], itemsize: int, out: Bytes) -> None:
    """Copy between two strided arrays that start at the first bytes of `stretch` and `out`."""
    levels, unit = _in_units(levels, itemsize)
    shape = [run.extent for run in levels]
    source = np.ndarray(shape, unit, stretch, 0, [run.source for run in levels])
    target = np.ndarray(shape, unit, out.data, 0, [run.target for run in levels])
    target[...] = source


def _in_units(levels: Sequence[Run], itemsize: int) -> tuple[list[Run], str]:
    """The same copy counted in elements, or in bytes where the innermost level already joins many."""
    last = levels[-1]
    if last.extent != itemsize:
        return list(levels), "u1"
    return [*levels[:-1], Run(1, itemsize, itemsize)], f"u{itemsize}"
