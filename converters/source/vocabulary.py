"""Rows of zeros at the end of the vocabulary, so that a number of ranks can share it, and the way back.

The config of a checkpoint with such rows says how many there are without them (`unpadded_vocab_size`), in a
key that InternEvo and transformers pass over. Whoever opens it leaves them out, as long as they are zeros.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from converters.config.facts import Fact
from converters.errors import IntegrityError, UsageError
from converters.formats.bytesource import ZEROS
from converters.formats.tensors import ELEMENT_TYPES
from converters.geometry.blocks import BLOCK, block_of, boxes_of
from converters.geometry.cells import PAD
from converters.geometry.logical import axes_of
from converters.geometry.pieces import Piece, intersection
from converters.source.gather import Sources, gather
from converters.values import shown

if TYPE_CHECKING:
    from converters.source.checkpoint import Checkpoint, LogicalTensor

MULTIPLE = 1 << 20
"""Of the rows of a padded vocabulary, at most: no grid has as many ranks."""
UNPADDED = "unpadded_vocab_size"
_SIZE = "vocab_size"


def padded(source: Checkpoint, multiple: int) -> Checkpoint:
    """The checkpoint with as many rows of zeros as make the vocabulary a multiple; itself if it is one.

    Raises UsageError for a number that is none, or makes most of it zeros.
    """
    if not 1 <= multiple <= MULTIPLE:
        what = f"{multiple} is no number to make the vocabulary a multiple of"
        raise UsageError(what, PAD, f"choose one from 1 to {MULTIPLE:,}")
    rows = source.sizes["vocab"]
    more = -rows % multiple
    if not more:
        return source
    tensors = {
        name: _longer(tensor, rows, more) if _has_rows(name) else tensor
        for name, tensor in source.tensors.items()
    }
    return replace(source, sizes={**source.sizes, "vocab": rows + more}, tensors=tensors)


def unpadded(source: Checkpoint, where: str) -> Checkpoint:
    """The checkpoint without the rows that its config says are padding, and a note of it; with them if they
    are no longer zero. where: the config. Raises IntegrityError if what it says is no number of rows."""
    stated = source.facts.get(UNPADDED)
    if stated is None:
        return source
    rows, found = stated.value, source.sizes["vocab"]
    if type(rows) is not int or not 0 < rows <= found:
        raise IntegrityError(f"{UNPADDED} is {shown(rows)}, and the embedding has {found} rows", where)
    source = replace(
        source,
        facts={name: fact for name, fact in source.facts.items() if name != UNPADDED},
        config={key: value for key, value in source.config.items() if key != UNPADDED},
    )
    if rows == found:
        return source
    if not _all_zero(source, rows):
        note = f"rows {rows} to {found - 1} of the vocabulary were padding, and are no zeros: they are kept"
        return replace(source, notes=(*source.notes, note))
    return _without(source, rows)


def _without(source: Checkpoint, rows: int) -> Checkpoint:
    fewer = source.sizes["vocab"] - rows
    rest = "row of the vocabulary is padding" if fewer == 1 else f"{fewer} rows of the vocabulary are padding"
    note = f"the last {rest}, of zeros, and left out"
    return replace(
        source,
        sizes={**source.sizes, "vocab": rows},
        facts={**source.facts, _SIZE: Fact(rows, source.facts[_SIZE].origin)},
        config={**source.config, _SIZE: rows},
        tensors={
            name: _shorter(tensor, rows) if _has_rows(name) else tensor
            for name, tensor in source.tensors.items()
        },
        notes=(*source.notes, note),
    )


def _has_rows(name: str) -> bool:
    return axes_of(name)[0] == "vocab"


def _longer(tensor: LogicalTensor, rows: int, more: int) -> LogicalTensor:
    _, hidden = tensor.shape
    size = ELEMENT_TYPES[tensor.dtype].itemsize
    zeros = Piece(ZEROS, "padding", ((rows, rows + more), (0, hidden)), 0, (hidden * size, size))
    return replace(tensor, shape=(rows + more, hidden), pieces=(*tensor.pieces, zeros))


def _shorter(tensor: LogicalTensor, rows: int) -> LogicalTensor:
    shape = (rows, tensor.shape[1])
    kept = ((piece, intersection(piece.box, tuple((0, n) for n in shape))) for piece in tensor.pieces)
    return replace(tensor, shape=shape, pieces=tuple(replace(piece, box=box) for piece, box in kept if box))


def _all_zero(source: Checkpoint, rows: int) -> bool:
    """Of everything after the first rows of the embedding and the head."""
    with Sources(source.folder) as files:
        return not any(
            _any_set(tensor, rows, files) for name, tensor in source.own.items() if _has_rows(name)
        )


def _any_set(tensor: LogicalTensor, rows: int, files: Sources) -> bool:
    size = ELEMENT_TYPES[tensor.dtype].itemsize
    beyond = ((rows, tensor.shape[0]), (0, tensor.shape[1]))
    for part in boxes_of(tensor.name, beyond, BLOCK // size):
        block = block_of(tensor.name, part, size)
        out = np.empty(block.nbytes, np.uint8)
        gather(block, tensor.pieces, size, files, out)
        if out.any():
            return True
    return False
