"""One digest per logical tensor: the same for every format, grid and spelling of the same weights.

BLAKE3, because it keeps up with the copy: SHA-256 at one core's rate would take longer than the conversion.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType

from blake3 import blake3

from converters.cells import Cell
from converters.checkpoint import Checkpoint, open_checkpoint
from converters.execute import Stream, check_replicas, in_parallel
from converters.formats.tensors import Span
from converters.gather import Block, Bytes, Sources
from converters.pieces import Piece, piece_of
from converters.plan import normalised, standalone
from converters.progress import Progress, Silence

SCHEME = "blake3 of the element type, the shape and the bytes in canonical order"


def fingerprint(path: str | os.PathLike[str], *, workers: int | None = None) -> dict[str, str]:
    """Logical name -> hex digest of its values. Raises what `open_checkpoint` raises, and IntegrityError for
    ranks that disagree."""
    return fingerprint_of(open_checkpoint(path), workers=workers)


def fingerprint_of(
    source: Checkpoint,
    *,
    known: Mapping[str, str] = MappingProxyType({}),
    workers: int | None = None,
    progress: Progress | None = None,
    task: str = "fingerprint",
) -> dict[str, str]:
    """The same for a checkpoint that is open. known: digests that need not be computed."""
    told = progress or Silence()
    targets = [target for target in standalone(source, None) if target[0].name not in known]
    told.start(task, sum(span.nbytes for _, span in targets))
    with Sources(source.folder) as files:
        check_replicas(source, files)
        stream = Stream(source, files, normalised(source, {}))

        def digest(target: tuple[Cell, Span]) -> Mapping[str, str]:
            cell, span = target
            watch = Watch(source, cell, span)
            for block, data in stream.tensor(cell, span):
                watch.see(block, data)
            told.advance(task, span.nbytes)
            return watch.digests()

        computed = in_parallel(digest, targets, workers)
    told.finish(task)
    digests = {**known, **{name: found for part in computed for name, found in part.items()}}
    return {name: digests[name] for name in source.tensors}


class Watch:
    """Digests of the logical tensors that pass whole and in canonical order on their way into one cell."""

    def __init__(self, source: Checkpoint, cell: Cell, span: Span) -> None:
        self._digests = {
            slab.logical: blake3(_header(source, slab.logical, span.dtype))
            for slab in cell.slabs
            if slab.box == source.box_of(slab.logical) and _canonical(piece_of(slab, span, span.name))
        }

    def see(self, block: Block, data: Bytes) -> None:
        """The next block of the cell."""
        if block.logical in self._digests:
            self._digests[block.logical].update(data.data)

    def digests(self) -> dict[str, str]:
        """By logical name, once all blocks were seen; tensors that came in parts or permuted are left out."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}


def _header(source: Checkpoint, name: str, dtype: str) -> bytes:
    return f"{dtype} {'x'.join(map(str, source.tensors[name].shape))}\n".encode()


def _canonical(piece: Piece) -> bool:
    """Whether its bytes follow one another as the axes do."""
    steps = [step for (start, stop), step in zip(piece.box, piece.strides, strict=True) if stop - start > 1]
    return all(outer > inner for outer, inner in pairwise(steps))
