"""One GGUF file, whose header is the config and holds the tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from converters.containers.container import (
    Config,
    Container,
    Extras,
    FolderContents,
    Place,
    StoredFile,
    WeightFile,
    WeightSet,
    WeightSetChoice,
    Wrong,
)
from converters.containers.files import attempt
from converters.containers.gguf_header import config_of, pairs_of
from converters.formats import gguf
from converters.formats.folder import Folder
from converters.formats.tensors import TensorSpec
from converters.tokenizer.gguf import gguf_tokenizer

SUFFIX = ".gguf"
_FILE = f"model{SUFFIX}"


class GgufContainer(Container):
    def sets(self, names: Sequence[str]) -> Iterator[WeightSet]:
        return (WeightSet(name, self, (name,)) for name in names if name.endswith(SUFFIX))

    def read(self, folder: Folder, choice: WeightSetChoice, config: Config, wrong: Wrong) -> FolderContents:
        (name,) = choice.taken.files
        with closing(folder.open(name)) as file:
            index = attempt(wrong, partial(gguf.read_index, file))
        stored = (StoredFile(name, folder.where(name), index.tensors),) if index else ()
        return FolderContents(
            folder,
            config_of(index.metadata) if index else {},
            name,
            {(0, 0): stored},
            choice,
            notes=choice.left_aside(folder.names(), choice.taken.files),
            configured=index is not None,
            whole=index is not None,
        )

    def files(self, parts: Mapping[Place, Sequence[TensorSpec]], extras: Extras) -> tuple[WeightFile, ...]:
        (tensors,) = parts.values()
        header = pairs_of(extras.config) | gguf_tokenizer(extras.tokenizer, extras.rows)
        return (WeightFile(_FILE, gguf.layout(tensors, header, quantise=extras.quantise)),)

    def write_config(self, directory: Path, config: Mapping[str, Any], files: Sequence[WeightFile]) -> None:
        """It lies in the file of weights."""


GGUF = GgufContainer("gguf", "the file's header", self_contained=True, dtypes=("q8_0",))
