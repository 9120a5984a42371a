"""The original format's container: a torch zip file for every rank and stage, and model_config.pt.

File names: InternLM/InternEvo c628a8c internlm/checkpoint/components.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
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
    WeightFile,
    WeightSet,
    WeightSetChoice,
    Wrong,
)
from converters.containers.files import attempt, read_weights
from converters.containers.names import MODEL_CONFIG
from converters.containers.shard_files import SPARSE, notes_on_nested
from converters.errors import IntegrityError, UnsupportedError
from converters.formats import torchzip
from converters.formats.folder import Folder
from converters.formats.tensors import TensorSpec

_COUNT = r"(?:0|[1-9][0-9]{0,5})"  # as programs write a number of ranks or stages
CELL = re.compile(rf"model_tp({_COUNT})_pp({_COUNT})\.pt")
UNSUPPORTED = {
    "weight parallelism (tensor mode isp)": re.compile(r"model_(tp\d+_)?wp\d+(_pp\d+)?.*\.pt"),
    "sharding by FSDP": re.compile(r"model_tp\d+_pp\d+_dp\d+\.pt"),
    "mixture of experts": re.compile(r"model_moe_layer\d+_expert\d+.*\.pt"),
}
_GRID = re.compile(r"model_(.*_)?((tp|pp|wp|dp)\d+|moe_layer\d+).*\.pt")
"""What is of a grid, or may be."""


class TorchGrid(Container):
    def sets(self, names: Sequence[str]) -> Iterator[WeightSet]:
        grid = tuple(name for name in names if _GRID.fullmatch(name))
        if grid:
            yield WeightSet(self.name, self, grid)

    def read(self, folder: Folder, choice: WeightSetChoice, config: Config, wrong: Wrong) -> FolderContents:
        places = _places(folder, choice, wrong)
        tp, pp = _extents(places)
        holes = list(_holes(folder, places, tp, pp))
        for hole in holes:
            wrong(hole)
        reading = partial(read_weights, folder, wrong)
        read = {place: attempt(wrong, partial(reading, places[place])) for place in sorted(places)}
        names = folder.names()
        stated = attempt(wrong, partial(_config, folder, names))
        nested = notes_on_nested(file for file in read.values() if file)
        return FolderContents(
            folder,
            stated or {},
            MODEL_CONFIG,
            {place: (file,) for place, file in read.items() if file},
            choice,
            tp,
            pp,
            (*choice.left_aside(names, choice.taken.files), *nested),
            configured=MODEL_CONFIG in names and stated is not None,
            whole=bool(places) and not holes and None not in read.values(),
        )

    def files(self, parts: Mapping[Place, Sequence[TensorSpec]], extras: Extras) -> tuple[WeightFile, ...]:
        return tuple(
            WeightFile(name_of(place), torchzip.layout(tensors), place) for place, tensors in parts.items()
        )

    def write_config(self, directory: Path, config: Mapping[str, Any], files: Sequence[WeightFile]) -> None:
        torchzip.write_object(directory / MODEL_CONFIG, dict(config))


TORCH_GRID = TorchGrid("original", "file names", MODEL_CONFIG, parallel=True, says_layout=False)


def name_of(place: Place) -> str:
    return f"model_tp{place[0]}_pp{place[1]}.pt"


def _config(folder: Folder, names: Sequence[str]) -> Mapping[str, Any]:
    """The config; empty if the file is not there, so that whoever needs a fact of it asks for it by name.

    Raises IntegrityError and UnsupportedError for a file that holds no config.
    """
    if MODEL_CONFIG not in names:
        return {}
    with closing(folder.open(MODEL_CONFIG)) as file:
        config = torchzip.read_object(file)
    if not isinstance(config, dict):
        raise UnsupportedError(f"it holds a {type(config).__name__}, not a dict", folder.where(MODEL_CONFIG))
    return config


def _places(folder: Folder, choice: WeightSetChoice, wrong: Wrong) -> Mapping[Place, str]:
    if not choice.taken.standard:  # one file that was asked for by its name
        return {(0, 0): choice.taken.name}
    for name in choice.taken.files:
        variant = next((known for known, pattern in UNSUPPORTED.items() if pattern.fullmatch(name)), None)
        if variant:
            what = f"this checkpoint uses {variant}, which is not supported"
            wrong(UnsupportedError(what, folder.where(name)))
        elif not CELL.fullmatch(name):
            what = "it may be of the grid, but no such file name is known"
            wrong(UnsupportedError(what, folder.where(name), "move it elsewhere if it is not of the grid"))
    matches = filter(None, map(CELL.fullmatch, choice.taken.files))
    places = {(int(match[1]), int(match[2])): match[0] for match in matches}
    tp, pp = _extents(places)
    if not places or tp * pp <= SPARSE * len(places):
        return places
    wrong(_sparse(folder, places[max(places, key=sum)], tp, pp, len(places)))
    return {}


def _extents(places: Collection[Place]) -> Place:
    """Ranks and stages of the smallest grid that has them all."""
    tp, pp = (max((place[n] for place in places), default=0) + 1 for n in (0, 1))
    return tp, pp


def _sparse(folder: Folder, name: str, tp: int, pp: int, here: int) -> IntegrityError:
    return IntegrityError(
        f"its name is of a grid of {tp:,} tensor-parallel ranks and {pp:,} pipeline stages, and {here:,} of "
        f"{tp * pp:,} files {'is' if here == 1 else 'are'} there",
        folder.where(name),
        "fetch the others; or move it elsewhere, if it is not of the grid",
    )


def _holes(folder: Folder, places: Collection[Place], tp: int, pp: int) -> Iterator[IntegrityError]:
    for place in ((rank, stage) for stage in range(pp) for rank in range(tp)) if places else ():
        if place not in places:
            what = f"{name_of(place)} is missing from the grid of {tp} tensor-parallel ranks and {pp} "
            yield IntegrityError(what + "pipeline stages", folder.name, f"fetch {name_of(place)}")
