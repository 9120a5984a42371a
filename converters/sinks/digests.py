"""One digest per logical tensor: the same for every format, grid and spelling of the same weights."""

from __future__ import annotations

import hashlib
import os

from converters.cells import Cell
from converters.checkpoint import Checkpoint, open_checkpoint
from converters.execute import Stream, check_replicas, in_parallel
from converters.formats.tensors import Span
from converters.gather import Sources
from converters.plan import normalised, standalone
from converters.progress import Progress, Silence

SCHEME = "sha256 of the element type, the shape and the bytes in canonical order"


def fingerprint(path: str | os.PathLike[str], *, workers: int | None = None) -> dict[str, str]:
    """Logical name -> hex digest of its values. Raises what `open_checkpoint` raises, and IntegrityError for
    ranks that disagree."""
    return fingerprint_of(open_checkpoint(path), workers=workers)


def fingerprint_of(
    source: Checkpoint,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    task: str = "fingerprint",
) -> dict[str, str]:
    """The same for a checkpoint that is open."""
    told = progress or Silence()
    targets = standalone(source, None)
    told.start(task, sum(span.nbytes for _, span in targets))
    with Sources() as files:
        check_replicas(source, files)
        stream = Stream(source, files, normalised(source, {}))

        def digest(target: tuple[Cell, Span]) -> str:
            found = _digest(stream, source, *target)
            told.advance(task, target[1].nbytes)
            return found

        digests = in_parallel(digest, targets, workers)
    told.finish(task)
    return {cell.name: found for (cell, _), found in zip(targets, digests, strict=True)}


def _digest(stream: Stream, source: Checkpoint, cell: Cell, span: Span) -> str:
    shape = source.tensors[cell.name].shape
    digest = hashlib.sha256(f"{span.dtype} {'x'.join(map(str, shape))}\n".encode())
    for _, data in stream.tensor(cell, span):
        digest.update(data.data)
    return digest.hexdigest()
