"""Files of the grid that are not the rank that their names say: renamed, or copied over one another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing

from converters.containers.container import StoredFile
from converters.containers.duplicates import same
from converters.containers.torch_grid import CELL
from converters.formats.bytesource import ByteSource
from converters.formats.folder import Folder
from converters.formats.tensors import StoredTensor
from converters.formats.zip_read import root_of
from converters.inspection.finding import Finding

# Samples of each file: so many that no two files of trained weights agree in them, and quickly read.
_TENSORS, _PER_TENSOR, _LENGTH = 4, 4, 4096
_IN_A_LAYER = re.compile(r"\.\d+\.")


def renamed(folder: Folder, files: Sequence[StoredFile]) -> Iterator[Finding]:
    """torch names the folder inside a zip file after the file that it saves to."""
    for file in files:
        with closing(folder.open(file.name)) as source:
            saved_as = root_of(source) + ".pt"
        if CELL.fullmatch(saved_as) and saved_as != file.name:
            what = f"it was saved as {saved_as}"
            yield Finding(what, file.where, "it may have been renamed: fetch it again")


def duplicates(folder: Folder, files: Sequence[StoredFile]) -> Iterator[Finding]:
    """What is compared are matrices of layers, which no two files have in common; norms and biases are the
    same in all ranks. Where a few ranges of them agree, one of them is compared in full."""
    seen: dict[bytes, StoredFile] = {}
    for file in files:
        sample = _sample(folder, file)
        if not any(sample):  # nothing to tell files apart by
            continue
        first = seen.setdefault(sample, file)
        if first is not file and same(folder, (first, _matrices(first)[-1]), (file, _matrices(file)[-1])):
            what = f"it holds the same weights as {first.name}"
            yield Finding(what, file.where, "one of the two was copied over the other: fetch both again")


def _matrices(file: StoredFile) -> list[StoredTensor]:
    """The largest, largest first."""
    matrices = [
        tensor
        for tensor in file.tensors.values()
        if len(tensor.shape) > 1 and tensor.contiguous and _IN_A_LAYER.search(tensor.name)
    ]
    return sorted(matrices, key=lambda tensor: (-tensor.nbytes, tensor.name))[:_TENSORS]


def _sample(folder: Folder, file: StoredFile) -> bytes:
    matrices = _matrices(file)
    with closing(folder.open(file.name)) as source:
        source.prefetch([part for tensor in matrices for part in _parts(tensor)])
        return b"".join(_read(source, *part) for tensor in matrices for part in _parts(tensor))


def _parts(tensor: StoredTensor) -> list[tuple[int, int]]:
    """Offset and length of ranges from its first bytes to its last."""
    length = min(_LENGTH, tensor.nbytes)
    step = (tensor.nbytes - length) // (_PER_TENSOR - 1)
    return [(tensor.offset + n * step, length) for n in range(_PER_TENSOR)]


def _read(source: ByteSource, offset: int, length: int) -> bytes:
    return source.read(offset, min(length, source.size - offset))
