"""A container: how tensors of ranks and stages become files, how a config is written, how both are read back.

Another container is a module beside this one and a line in `choice.CONTAINERS`; layouts name theirs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.containers.foreign import foreign
from converters.errors import IntegrityError, ZooError, parameter
from converters.formats.folder import Folder
from converters.formats.tensors import FileLayout, StoredTensor, TensorSpec

Place = tuple[int, int]
"""Tensor-parallel rank and pipeline stage."""
Config = Callable[[], Mapping[str, Any] | None]
"""Reads config.json once; None if there is none, or it is damaged, which was noted."""
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


@dataclass(frozen=True)
class WeightSet:
    """One set of weights. name: what asks for it, a file or `original`. files: of its weights, as far as
    names show; an index may name others. indexed: whether `name` is one. standard: whether its names say that
    it is meant to be read."""

    name: str
    container: Container
    files: tuple[str, ...]
    indexed: bool = False
    standard: bool = True

    @property
    def spoken(self) -> str:
        """How a sentence names it."""
        if self.indexed:
            return f"{self.name} and its shards" if self.files else self.name
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return f"{self.files[0]}{more}"


@dataclass(frozen=True)
class WeightSetChoice:
    """taken: the set that is read. others: the sets that are there too. asked: whether it was asked for."""

    taken: WeightSet
    others: tuple[WeightSet, ...]
    asked: bool = False

    def left_aside(self, names: Sequence[str], used: Sequence[str]) -> tuple[str, ...]:
        """What is said of weights that are there and were not taken."""
        others = [one for one in self.others if not one.files or not set(one.files) <= set(used)]
        spoken = [one.spoken for one in others]
        spoken += [name for name in self.taken.files if name not in used]
        spoken += [f"{name} ({kind.what})" for name, kind in foreign(names)]
        if not spoken:
            return ()
        rivals = any(one.standard and one.container == self.taken.container for one in others)
        why = ", which from_pretrained looks for first" if rivals and not self.asked else ""
        way = f"; {parameter('weights', others[0].name)} takes others" if others else ""
        return (f"the weights are {self.taken.spoken}{why}; left aside: {', '.join(spoken)}{way}",)


@dataclass(frozen=True)
class FolderContents:
    """What a folder holds. files: by place; all but those of a grid are of (0, 0).
    notes: what a person should know of how it was read. choice: which of its sets of weights this is.
    configured: whether its config could be read. whole: whether every file could that should be there.
    stale: what is wrong with its index, if anything is. absent: which files are missing, if the tensors that
    are there turn out not to be all."""

    folder: Folder
    config: Mapping[str, Any]
    config_file: str
    files: Mapping[Place, tuple[StoredFile, ...]]
    choice: WeightSetChoice
    tp: int = 1
    pp: int = 1
    notes: tuple[str, ...] = ()
    configured: bool = True
    whole: bool = True
    stale: str | None = None
    absent: tuple[IntegrityError, ...] = ()

    @property
    def container(self) -> Container:
        return self.choice.taken.container

    @property
    def weight_files(self) -> tuple[StoredFile, ...]:
        return tuple(file for files in self.files.values() for file in files)

    @property
    def tensors(self) -> Iterator[StoredTensor]:
        """Those of all its files, rank by rank."""
        return (tensor for file in self.weight_files for tensor in file.tensors.values())


@dataclass(frozen=True)
class Extras:
    """What goes into files besides tensors. tokenizer: its files. rows: of the embedding. quantise: whether
    matrices become Q8_0."""

    config: Mapping[str, Any]
    tokenizer: Mapping[str, bytes] = field(default_factory=dict)
    rows: int = 0
    max_shard_size: str | int = "5GB"
    quantise: bool = False


@dataclass(frozen=True)
class WeightFile:
    """A file of weights before a byte is written. place: whose tensors it holds."""

    name: str
    layout: FileLayout
    place: Place = (0, 0)


@dataclass(frozen=True)
class Container(ABC):
    """name: what `weights` and `inspect` call it. config_file: None where the config lies in the file of
    weights. known_by: how it is known, as `inspect` says it. parallel: whether every rank and stage has a
    file. self_contained: whether config and tokenizer lie in the one file of weights. says_layout: whether
    the config says which layout the tensors have; else their names do. dtypes: element types that it alone
    can hold."""

    name: str
    known_by: str
    config_file: str | None = None
    parallel: bool = False
    self_contained: bool = False
    says_layout: bool = True
    dtypes: tuple[str, ...] = ()

    @abstractmethod
    def sets(self, names: Sequence[str]) -> Iterable[WeightSet]:
        """Those that names of files stand for, in the order in which they are looked for."""

    @abstractmethod
    def read(self, folder: Folder, choice: WeightSetChoice, config: Config, wrong: Wrong) -> FolderContents:
        """All headers of the set that is taken. wrong: told of every fault."""

    @abstractmethod
    def files(self, parts: Mapping[Place, Sequence[TensorSpec]], extras: Extras) -> tuple[WeightFile, ...]:
        """Raises UnsupportedError for element types that it does not hold."""

    @abstractmethod
    def write_config(self, directory: Path, config: Mapping[str, Any], files: Sequence[WeightFile]) -> None:
        """What lies beside the files of weights and says how to read them."""
