"""Tensors in memory, one at a time: what a loader puts on its devices."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from converters.checkpoint import Checkpoint
from converters.errors import NotFoundError
from converters.execute import Stream, check_replicas
from converters.gather import Sources
from converters.layouts import layout_of
from converters.plan import normalised, standalone

Tensor = tuple[str, str, tuple[int, ...], bytearray]


def read_tensors(
    source: Checkpoint, to: str = "llama", names: Collection[str] | None = None
) -> Iterator[Tensor]:
    """(name, dtype code, shape, bytes) of the tensors as another format has them, read as they are asked for.

    to: llama, or hf. names: only these, by that format's names.
    Raises NotFoundError for a name there is not, IntegrityError and UnsupportedError as a conversion does.
    """
    targets = standalone(source, layout_of(source.family, to))
    if names is not None:
        absent = sorted(set(names) - {cell.name for cell, _ in targets})
        if absent:
            raise NotFoundError("there is no such tensor", absent[0])
        targets = [target for target in targets if target[0].name in names]
    with Sources(source.folder) as files:
        check_replicas(source, files)
        stream = Stream(source, files, normalised(source, {}))
        for cell, span in targets:
            data = bytearray(span.nbytes)
            for block, part in stream.tensor(cell, span):
                data[block.offset : block.offset + block.nbytes] = part.data
            yield cell.name, span.dtype, span.shape, data
