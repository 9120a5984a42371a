"""Fills a FileLayout as an executor would, in memory or sparsely on disk."""

from __future__ import annotations

import zlib


def fill(layout, data):
    """The finished file: fixed bytes, tensor bytes by name, then what finalize asks for."""
    content = bytearray(layout.size)
    for span in layout.spans:
        assert len(data[span.name]) == span.nbytes
        content[span.offset : span.offset + span.nbytes] = data[span.name]
    for offset, patch in layout.fixed + layout.finalize({name: zlib.crc32(d) for name, d in data.items()}):
        assert offset + len(patch) <= layout.size
        content[offset : offset + len(patch)] = patch
    return bytes(content)


def fill_sparse(layout, path, data, crcs):
    """The same on disk; spans without data stay holes, their CRCs are given."""
    with open(path, "wb") as file:
        file.truncate(layout.size)
        for span in layout.spans:
            if span.name in data:
                file.seek(span.offset)
                file.write(data[span.name])
        for offset, patch in layout.fixed + layout.finalize(crcs):
            file.seek(offset)
            file.write(patch)


def tensor_bytes(tensor):
    """Row-major bytes of a torch tensor."""
    import torch

    if not tensor.numel():
        return b""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def stored_bytes(path, stored):
    """Row-major bytes of a StoredTensor, gathered element by element along its strides."""
    import numpy as np

    from converters.formats.tensors import ELEMENT_TYPES

    itemsize = ELEMENT_TYPES[stored.dtype].itemsize
    buffer = (
        np.memmap(path, dtype=np.uint8, mode="r")[stored.offset :] if stored.nbytes else np.zeros(0, np.uint8)
    )
    strides = (*(itemsize * s for s in stored.strides), 1)
    return np.lib.stride_tricks.as_strided(buffer, (*stored.shape, itemsize), strides).tobytes()


def save(path, value):
    """By torch itself."""
    import torch

    torch.save(value, path)
    return path
