"""A file of weights by its headers, and what is done about a fault of a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from converters.errors import ZooError
from converters.formats.tensors import StoredTensor

Wrong = Callable[[ZooError], None]
"""What is done about a fault of a folder: raise it, or note it and let the reading go on."""


@dataclass(frozen=True)
class StoredFile:
    """A file of weights, by its headers. where: what errors call it. tensors: by stored name. under: the key
    of a pickle under which they lie, where it is not the bare state dict."""

    name: str
    where: str
    tensors: Mapping[str, StoredTensor]
    under: str | None = None
