"""Ranks of a stage that hold the same bytes: one of them is a copy of another under a wrong name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import groupby

from converters.discover import StoredFile, place_of
from converters.formats.bytesource import ByteSource
from converters.formats.folder import Folder
from converters.formats.tensors import StoredTensor
from converters.inspection.finding import Finding

# Samples of each file: so many that no two shards of trained weights agree in them, and quickly read.
_TENSORS, _PER_TENSOR, _LENGTH = 4, 4, 4096


def duplicates(folder: Folder, files: Sequence[StoredFile]) -> Iterator[Finding]:
    """What is said of matrices, which all ranks share out: norms and biases may be the same everywhere."""
    by_stage = sorted(files, key=lambda file: place_of(file.name)[::-1])
    for _, stage in groupby(by_stage, key=lambda file: place_of(file.name)[1]):
        seen: dict[bytes, str] = {}
        for file in stage:
            sample = _sample(folder, file)
            if not any(sample):  # nothing to tell files apart by
                continue
            first = seen.setdefault(sample, file.name)
            if first != file.name:
                yield Finding(
                    f"it holds the same weights as {first}, another rank of its stage",
                    file.where,
                    "one of the two was copied over the other: fetch both again",
                )


def _sample(folder: Folder, file: StoredFile) -> bytes:
    matrices = [tensor for tensor in file.tensors.values() if len(tensor.shape) > 1]
    largest = sorted(matrices, key=lambda tensor: (-tensor.nbytes, tensor.name))[:_TENSORS]
    with closing(folder.open(file.name)) as source:
        return b"".join(part for tensor in largest for part in _parts(source, tensor))


def _parts(source: ByteSource, tensor: StoredTensor) -> Iterator[bytes]:
    length = min(_LENGTH, tensor.nbytes)
    for n in range(_PER_TENSOR):
        offset = tensor.offset + (tensor.nbytes - length) * n // (_PER_TENSOR - 1)
        yield source.read(min(offset, source.size - length), length)
