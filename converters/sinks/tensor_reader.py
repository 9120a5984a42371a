"""Llama's tensors, found where they lie in files or read into memory that its user has: what a loader needs.

A tensor of Llama is a logical tensor in canonical order, so that it needs no plan of its own.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType

from converters.formats.bytesource import ZEROS, LocalFile
from converters.formats.tensors import ELEMENT_TYPES, nbytes
from converters.geometry.blocks import boxes_of
from converters.geometry.cells import Box
from converters.geometry.pieces import Piece, volume
from converters.planning.choices import normalised
from converters.planning.plan import standalone
from converters.source.checkpoint import Checkpoint
from converters.source.gather import Bytes, Sources
from converters.streaming.stream import Stream, check_replicas, in_stretches


@dataclass(frozen=True)
class LlamaTensor:
    """name: as Llama calls it. logical: the logical tensor that it is. dtype: a safetensors code."""

    name: str
    logical: str
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
    """The tensors of a checkpoint as Llama has them; a context manager. Its methods may be called from any
    thread. Raises UnsupportedError for what Llama cannot express; entering it compares what several ranks
    hold, leaving it raises IntegrityError for a file that changed meanwhile."""

    def __init__(self, source: Checkpoint) -> None:
        self._source = source
        self._stack = ExitStack()
        places = standalone(source, source.layout_in("llama"))
        self.tensors = tuple(
            LlamaTensor(place.span.name, place.cell.slabs[0].logical, place.span.dtype, place.span.shape)
            for place in places
        )

    def __enter__(self) -> TensorReader:
        self._files = self._stack.enter_context(Sources(self._source.folder))
        check_replicas(self._source, self._files)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def mapped(self, tensor: LlamaTensor) -> memoryview | None:
        """Its bytes in the file that holds them as they are wanted, in memory that may be written to; None
        where no file does, or not at a multiple of the size of an element, or cannot be mapped."""
        piece = self._whole(tensor)
        if piece is None or piece.offset % ELEMENT_TYPES[tensor.dtype].itemsize:
            return None
        memory = self._mapping(piece.file)
        if memory is None:
            return None
        return memoryview(memory)[piece.offset : piece.offset + tensor.nbytes]

    def parts(self, tensor: LlamaTensor, most: int) -> Iterator[TensorPart]:
        """All of it. most: bytes of a part, but for heads that are kept whole."""
        itemsize, start = ELEMENT_TYPES[tensor.dtype].itemsize, 0
        for box in boxes_of(tensor.logical, self._source.box_of(tensor.logical), most // itemsize):
            size = volume(box) * itemsize
            yield TensorPart(tensor, box, start, size)
            start += size

    def read_into(self, part: TensorPart, out: Bytes) -> None:
        """out: uint8 [nbytes]. Raises what `Stream.read` does."""
        self._stream.read_into(part.tensor.logical, part.box, out)

    @cached_property
    def _stream(self) -> Stream:
        return Stream(self._source, self._files, normalised(self._source, {}))

    @cached_property
    def _mappings(self) -> dict[str, mmap.mmap | None]:
        return {}

    def _mapping(self, file: str) -> mmap.mmap | None:
        if file not in self._mappings:
            source = self._files[file]
            self._mappings[file] = source.mapped() if isinstance(source, LocalFile) else None
        return self._mappings[file]

    def _whole(self, tensor: LlamaTensor) -> Piece | None:
        """The piece that has all of it, in order."""
        name, (piece, *others) = tensor.logical, self._source.tensors[tensor.logical].pieces
        if others or piece.file == ZEROS or name in self._stream.normalised:
            return None
        itemsize = ELEMENT_TYPES[tensor.dtype].itemsize
        whole = self._source.box_of(name)
        return piece if piece.box == whole and in_stretches(name, whole, [piece], itemsize) else None
