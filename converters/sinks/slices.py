"""Slices of a checkpoint's tensors as another layout has them, read into memory that their user has: what
training frameworks and tensor-parallel ranks need.

Nothing is read but what a slice needs: which parts of logical tensors lie in it is arithmetic
(converters/geometry/regions.py), and the files give these parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from converters.errors import UsageError
from converters.formats.tensors import nbytes
from converters.geometry.cells import Box, Cell, Slab
from converters.geometry.logical import axes_of
from converters.geometry.pieces import extents_of, intersection
from converters.geometry.regions import within
from converters.geometry.shares import share_of
from converters.layouts.llama import UNTIED
from converters.planning.choices import chosen, normalised
from converters.planning.expressible import check_expressible
from converters.planning.targets import spec_of
from converters.source.checkpoint import Checkpoint
from converters.source.gather import Sources
from converters.streaming.stream import Stream, check_replicas

Elements = npt.NDArray[np.unsignedinteger]
"""Values of a tensor as bit patterns: uint16, uint32 or uint64 by the size of its element type."""
NAMES = ("llama", "hf")


@dataclass(frozen=True)
class SlicedTensor:
    """A tensor, or what one rank holds of it. dtype: a safetensors code. cell: what lies where in it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    cell: Cell

    @property
    def nbytes(self) -> int:
        return nbytes(self.dtype, self.shape)

    @property
    def whole(self) -> Box:
        return tuple((0, size) for size in self.shape)


def tensors_of(
    source: Checkpoint, names: str, rank: int = 0, of: int = 1, *, tied_head: bool = False
) -> tuple[SlicedTensor, ...]:
    """What a tensor-parallel rank holds, in the order of the modules. names: of which format. tied_head:
    whether a head that is the embedding is one of them, as in a model's state dict.

    Raises UsageError for a format of other names and a rank that there is not, UnsupportedError for what the
    format cannot express and what ranks cannot share, MissingFactError for hf of an unknown family.
    """
    if names not in NAMES:
        raise UsageError(f"there are no tensors by the names of {names!r}", "`names`", ", ".join(NAMES))
    layout = source.layout_in(names)
    choices = chosen(layout, source, source.facts)
    check_expressible(layout, choices, source)
    cells = share_of(layout, {**choices, **UNTIED} if tied_head else choices, source.sizes, rank, of)
    return tuple(SlicedTensor(cell.name, spec_of(source, {}, cell).dtype, cell.shape, cell) for cell in cells)


class SliceReader:
    """A context manager; its methods may be called from any thread. exact: whether nothing but what is wanted
    is read, for a rank among others. Leaving it raises IntegrityError for a file that changed meanwhile."""

    def __init__(self, source: Checkpoint, *, exact: bool) -> None:
        self._source = source
        self._exact = exact
        self._stack = ExitStack()
        self._streams: dict[str, Stream] = {}

    def __enter__(self) -> SliceReader:
        self._files = self._stack.enter_context(Sources(self._source.folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def check_replicas(self) -> None:
        """Raises IntegrityError naming the rank whose copy of a tensor differs from the first rank's."""
        check_replicas(self._source, self._files)

    def read_into(self, tensor: SlicedTensor, region: Box, dtype: str, out: Elements) -> None:
        """A region of a tensor. out: of its shape, in any strides. dtype: the code of its elements' type.

        Raises IntegrityError for files that are not what their headers say, UnsupportedError for a value that
        the type cannot hold.
        """
        stream = self._stream(dtype)
        for slab in tensor.cell.slabs:
            for part in within(slab, region):
                _fill(stream, part, _view(part, out))

    def _stream(self, dtype: str) -> Stream:
        """Reads tensors of every other type as this one."""
        if dtype not in self._streams:
            stored = self._source.dtype_by_name
            elements = {name: dtype for name, code in stored.items() if code != dtype}
            known = self._source, self._files, normalised(self._source, {}), elements
            self._streams[dtype] = Stream(*known, exact=self._exact)
        return self._streams[dtype]


def regions_of(shape: tuple[int, ...], itemsize: int, most: int) -> Iterator[Box]:
    """A tensor in consecutive rows. most: bytes of a region, but for one row."""
    rows, *others = shape
    row = itemsize * int(np.prod(others, dtype=np.int64))
    step = max(most // max(row, 1), 1)
    for start in range(0, rows, step):
        yield (start, min(start + step, rows)), *((0, size) for size in others)


def _view(part: Slab, out: Elements) -> Elements:
    """The part's elements in the memory of the region, over the axes of its logical tensor."""
    corner = out[tuple(slice(index, None) for index in part.base)]
    strides = [out.strides[dim] * step for dim, step in part.steps]
    return as_strided(corner, extents_of(part.box), strides)


def _fill(stream: Stream, part: Slab, view: Elements) -> None:
    if view.flags.c_contiguous and part.logical not in stream.normalised:
        stream.read_into(part.logical, part.box, view.reshape(-1).view(np.uint8))
        return
    for block, data in stream.read(part.logical, _readable(stream, part)):
        shared = intersection(block.box, part.box)
        if shared:
            values = data.view(view.dtype).reshape(extents_of(block.box))
            view[_inside(shared, part.box)] = values[_inside(shared, block.box)]


def _readable(stream: Stream, part: Slab) -> Box:
    """Rows are brought to length one by all of their elements."""
    if part.logical not in stream.normalised:
        return part.box
    *outer, last = axes_of(part.logical)
    return (*part.box[: len(outer)], (0, stream.source.sizes[last]))


def _inside(box: Box, outer: Box) -> tuple[slice, ...]:
    return tuple(
        slice(start - first, stop - first) for (start, stop), (first, _) in zip(box, outer, strict=True)
    )
