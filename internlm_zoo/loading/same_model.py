"""That all ranks have the same model before them: each opens files of its own, on a machine of its own maybe.

Formats and grids may differ, as every rank reads its share of what it has. Compared is what they are of: the
config, types and sizes of the tensors, and before any is read whole the first values of each.
"""

from __future__ import annotations

from collections.abc import Mapping

import converters
from converters import Checkpoint
from converters.planning.choices import normalised
from converters.source.gather import Sources
from converters.streaming.stream import Stream
from internlm_zoo.errors import IntegrityError
from internlm_zoo.loading.ranks import Ranks, agreed, told

_VALUES = 16
# Formats say more or less of tokens, and no weight depends on it.
_TOKEN = "_token_id"
_FIX = "give every machine the same release; `internlm-zoo fingerprint` tells two apart"


def check_same_model(ranks: Ranks, checkpoint: Checkpoint) -> None:
    """By what headers say. Raises IntegrityError, on all ranks, for the first that has another model than
    rank 0."""
    _check_same(ranks, checkpoint, agreed(ranks, lambda: _facts(checkpoint)))


def check_same_weights(ranks: Ranks, checkpoint: Checkpoint) -> None:
    """By the first values of every tensor. Raises IntegrityError as above, and what reading them raises."""
    _check_same(ranks, checkpoint, agreed(ranks, lambda: _first_values(checkpoint)))


def _check_same(ranks: Ranks, checkpoint: Checkpoint, mine: Mapping[str, str]) -> None:
    (_, first), *others = told(ranks, (str(checkpoint.path), mine))
    for rank, (path, found) in enumerate(others, 1):
        other = [name for name in {**first, **found} if first.get(name) != found.get(name)]
        if other:
            more = f", and {len(other) - 1} more differ" if len(other) > 1 else ""
            values = f"{found.get(other[0], 'absent')} instead of {first.get(other[0], 'absent')}"
            what = f"rank {rank} has another model than rank 0: {other[0]} is {values}{more}"
            raise IntegrityError(what, path, _FIX)


def _facts(checkpoint: Checkpoint) -> Mapping[str, str]:
    stated = converters.llama_config(checkpoint)
    config = {name: repr(value) for name, value in stated.items() if not name.endswith(_TOKEN)}
    return config | {
        name: f"{tensor.dtype} {[stop for _, stop in checkpoint.box_of(name)]}"
        for name, tensor in checkpoint.tensors.items()
    }


def _first_values(checkpoint: Checkpoint) -> Mapping[str, str]:
    """As stored, in hexadecimal. A head whose rows get length one may be stored either way."""
    with Sources(checkpoint.folder) as files:
        stream = Stream(checkpoint, files, frozenset(), exact=True)
        names = [name for name in checkpoint.tensors if name not in normalised(checkpoint, {})]
        return {name: _first_of(stream, name) for name in names}


def _first_of(stream: Stream, name: str) -> str:
    *outer, (_, size) = stream.source.box_of(name)
    box = (*((0, 1) for _ in outer), (0, min(size, _VALUES)))
    return b"".join(data.tobytes() for _, data in stream.read(name, box)).hex()
