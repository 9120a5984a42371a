"""One digest per logical tensor: the same for every format, grid and spelling of the same weights.

BLAKE3, because it keeps up with the copy: SHA-256 at one core's rate would take longer than the conversion.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from blake3 import blake3

from converters.formats.bytesource import Digest
from converters.formats.tensors import nbytes
from converters.planning.choices import normalised
from converters.progress import NullProgress, Progress
from converters.source.checkpoint import Checkpoint, LogicalTensor, open_checkpoint
from converters.source.gather import Sources
from converters.source.tied import EMBEDDING, HEAD
from converters.streaming.stream import Stream, check_replicas, in_parallel

SCHEME = "blake3 of the element type, the shape and the bytes in canonical order"


def fingerprint(
    path: str | os.PathLike[str],
    *,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    workers: int | None = None,
) -> dict[str, str]:
    """Logical name -> hex digest of its values. given: facts that the config does not state. weights: which
    of several sets. Raises what `open_checkpoint` raises, and IntegrityError for ranks that disagree."""
    return fingerprint_of(open_checkpoint(path, given, weights=weights), workers=workers)


def fingerprint_of(
    source: Checkpoint,
    *,
    known: Mapping[str, str] = MappingProxyType({}),
    elements: Mapping[str, str] = MappingProxyType({}),
    as_counted: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
    task: str = "fingerprint",
) -> dict[str, str]:
    """The same for a checkpoint that is open. known: digests that need not be computed. elements:
    the types of those tensors that count once they are rounded to another. as_counted: a head of norm_head
    with normalised rows, as it counts in the forward pass; else as it is stored."""
    display = progress or NullProgress()
    same = {HEAD: EMBEDDING} if source.tied else {}  # the same element type, shape and bytes
    names = [name for name in source.tensors if name not in known and name not in same]
    with Sources(source.folder) as files:
        check_replicas(source, files)
        counted = normalised(source, {}) if as_counted else frozenset()
        stream = Stream(source, files, counted, elements)
        display.start(task, sum(nbytes(stream.dtype_of(name), source.tensors[name].shape) for name in names))

        def digest(name: str) -> str:
            running = begin(stream, source.tensors[name])
            for block, data in stream.read(name):
                running.update(data.data)
                display.advance(task, block.nbytes)
            return running.hexdigest()

        computed = dict(zip(names, in_parallel(digest, names, workers), strict=True))
    display.finish(task)
    digests = {**computed, **known}
    return {name: digests[same.get(name, name)] for name in source.tensors}


def fingerprint_of_all(digests: Mapping[str, str]) -> str:
    """One digest of a whole model. digests: of every logical tensor, by name."""
    lines = (f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return blake3("".join(lines).encode()).hexdigest()


def begin(stream: Stream, tensor: LogicalTensor) -> Digest:
    """The digest of a logical tensor before its bytes, which follow in canonical order."""
    shape = "x".join(map(str, tensor.shape))
    return blake3(f"{stream.dtype_of(tensor.name)} {shape}\n".encode())
