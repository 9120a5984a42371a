"""Llama's tensors, found where they lie in files or read into memory that its user has: what a loader needs.

A tensor of Llama is a logical tensor in canonical order, so that it needs no plan of its own.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from weakref import WeakValueDictionary

from converters.formats.bytesource import ZEROS, LocalFile
from converters.formats.tensors import ELEMENT_TYPES, nbytes
from converters.geometry.batches import Place
from converters.geometry.blocks import block_of, boxes_of
from converters.geometry.cells import Box
from converters.geometry.pieces import volume
from converters.geometry.stretches import Stretch, stretches_of
from converters.planning.choices import normalised
from converters.planning.plan import standalone
from converters.sinks.splice import splice
from converters.source.checkpoint import Checkpoint
from converters.source.gather import Bytes, Sources
from converters.source.tied import EMBEDDING
from converters.streaming.stream import Stream, check_replicas
from converters.system.mappings import can_lay, spare_mappings

LONG = 256 << 10
"""Bytes of a stretch from which on a mapping takes less time than a copy."""


@dataclass(frozen=True)
class LlamaTensor:
    """name: as Llama calls it. logical, box: the logical tensor that it is, or that it is a box of. dtype: a
    safetensors code."""

    name: str
    logical: str
    box: Box
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return nbytes(self.dtype, self.shape)


@dataclass(frozen=True)
class TensorPart:
    """Consecutive elements of a tensor. start: the first byte's place in it."""

    tensor: LlamaTensor
    box: Box
    start: int
    nbytes: int


class TensorReader:
    """The tensors of a checkpoint as Llama has them, or what one of tp ranks has of them, and only that is
    read; a context manager. exact: whether nothing else is read where tp is 1, too. Its methods may be called
    from any thread. Raises UnsupportedError for what Llama cannot express, and where tp ranks cannot share
    it; entering it compares what several ranks hold, leaving it raises IntegrityError for a file that changed
    meanwhile, unless its user looks (confirmed=False)."""

    def __init__(
        self,
        source: Checkpoint,
        rank: int = 0,
        tp: int = 1,
        *,
        exact: bool = False,
        confirmed: bool = True,
    ) -> None:
        self._source = source
        self._exact = exact or tp > 1
        self._confirmed = confirmed
        self._stack = ExitStack()
        self._spare = 0  # mappings
        places = standalone(source, source.layout_in("llama"), rank, tp)
        self.tensors = tuple(_tensor_of(place) for place in places)

    def __enter__(self) -> TensorReader:
        self._files = self._stack.enter_context(Sources(self._source.folder, confirmed=self._confirmed))
        embedding = next((tensor.box for tensor in self.tensors if tensor.logical == EMBEDDING), None)
        check_replicas(self._source, self._files, embedding)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def mapped(self, tensor: LlamaTensor) -> memoryview | None:
        """Its bytes in the files that hold them, in memory that may be written to; None where they lie there
        in short stretches, not at multiples of the size of an element, or so that they cannot be mapped."""
        itemsize = ELEMENT_TYPES[tensor.dtype].itemsize
        if tensor.logical in self._stream.normalised:
            return None
        block = block_of(tensor.logical, tensor.box, itemsize)
        pieces = self._source.tensors[tensor.logical].pieces
        stretches = stretches_of(block, pieces, itemsize, min(LONG, tensor.nbytes))
        if not stretches or any(one.file == ZEROS or one.offset % itemsize for one in stretches):
            return None
        if (
            self._exact or len(stretches) > 1
        ):  # else the system reads here and there as the model comes to look
            for one in stretches:
                self._files[one.file].announce([(one.offset, one.nbytes)])
        return self._in_file(stretches[0]) if len(stretches) == 1 else self._spliced(stretches)

    def parts(self, tensor: LlamaTensor, most: int) -> Iterator[TensorPart]:
        """All of it. most: bytes of a part, but for heads that are kept whole."""
        itemsize, start = ELEMENT_TYPES[tensor.dtype].itemsize, 0
        for box in boxes_of(tensor.logical, tensor.box, most // itemsize):
            size = volume(box) * itemsize
            yield TensorPart(tensor, box, start, size)
            start += size

    def read_into(self, part: TensorPart, out: Bytes) -> None:
        """out: uint8 [nbytes]. Raises what `Stream.read` does."""
        self._stream.read_into(part.tensor.logical, part.box, out)

    @cached_property
    def _stream(self) -> Stream:
        return Stream(self._source, self._files, normalised(self._source, {}), exact=self._exact)

    @cached_property
    def _mappings(self) -> WeakValueDictionary[str, mmap.mmap]:
        """Each for as long as a tensor lies in it."""
        return WeakValueDictionary()

    def _mapping(self, file: str) -> mmap.mmap | None:
        source, found = self._files[file], self._mappings.get(file)
        if found is None and isinstance(source, LocalFile):
            found = source.mapped()
            if found is not None:
                self._mappings[file] = found
        return found

    def _in_file(self, stretch: Stretch) -> memoryview | None:
        memory = self._mapping(stretch.file)
        return None if memory is None else memoryview(memory)[stretch.offset :][: stretch.nbytes]

    def _spliced(self, stretches: Sequence[Stretch]) -> memoryview | None:
        """Each takes a mapping, and one more for the page that it shares with the next."""
        wanted = 2 * len(stretches)
        if wanted > self._spare:
            self._spare = spare_mappings()  # what was let go of meanwhile counts
        if wanted > self._spare or not can_lay():
            return None
        self._spare -= wanted
        return splice(stretches, self._files)


def _tensor_of(place: Place) -> LlamaTensor:
    (slab,) = place.cell.slabs
    return LlamaTensor(place.span.name, slab.logical, slab.box, place.span.dtype, place.span.shape)
