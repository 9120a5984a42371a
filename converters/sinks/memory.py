"""Tensors in memory, one at a time: what a loader puts on its devices."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from converters.errors import NotFoundError
from converters.geometry.batches import Batch, batches_of
from converters.planning.choices import normalised
from converters.planning.plan import standalone
from converters.source.checkpoint import Checkpoint
from converters.source.gather import Sources
from converters.streaming.scatter import spread
from converters.streaming.stream import Stream, check_replicas

Tensor = tuple[str, str, tuple[int, ...], bytearray]


def read_tensors(
    source: Checkpoint,
    to: str = "llama",
    names: Collection[str] | None = None,
    *,
    rank: int = 0,
    tp: int = 1,
) -> Iterator[Tensor]:
    """(name, dtype code, shape, bytes) of the tensors as another format has them, read as they are asked for.

    to: llama, or hf. names: only these, by that format's names. rank: of tp, whose share alone is wanted, and
    read; what no rank cuts comes whole.
    Raises NotFoundError for a name there is not, IntegrityError and UnsupportedError as a conversion does;
    UnsupportedError, with both numbers, where tp ranks cannot share it.
    """
    places = standalone(source, source.layout_in(to), rank, tp)
    if names is not None:
        absent = sorted(set(names) - {place.span.name for place in places})
        if absent:
            raise NotFoundError("there is no such tensor", absent[0])
        places = [place for place in places if place.span.name in names]
    with Sources(source.folder) as files:
        check_replicas(source, files)
        stream = Stream(source, files, normalised(source, {}), exact=tp > 1)
        for batch in batches_of(places):
            yield from _read(batch, stream)


def _read(batch: Batch, stream: Stream) -> Iterator[Tensor]:
    filled = {place.span.name: bytearray(place.span.nbytes) for place in batch.places}
    for name in batch.tensors:
        for _, parts in spread(batch, name, stream):
            for place, offset, part in parts:
                filled[place.span.name][offset : offset + len(part)] = part
    for place in batch.places:
        yield place.span.name, place.span.dtype, place.span.shape, filled.pop(place.span.name)
