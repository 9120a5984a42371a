"""A checkpoint, from its headers alone: its facts, and where every logical tensor lies."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path, PurePath
from typing import Any

from converters import layouts
from converters.config.facts import (
    TENSORS,
    Fact,
    Facts,
    dtype_name,
    given_facts,
    missing,
    read,
    unsaid_choices,
)
from converters.config.unread import check_unread, overlaid
from converters.containers.container import FolderContents
from converters.containers.discover import discover, explained, index_note
from converters.containers.files import read_record
from converters.formats.bytesource import ZEROS
from converters.formats.folder import Folder, local_folder
from converters.geometry.cells import Box, Grid
from converters.geometry.logical import AXES, Sizes, flat_shape, pattern_of, shape_of
from converters.geometry.pieces import Piece, piece_of
from converters.layouts.llama import TIED
from converters.layouts.table import Layout
from converters.source.elements import check_elements, mixture, usual
from converters.source.family import family_of
from converters.source.match import Match, by_place, match
from converters.source.measure import measure
from converters.source.model_identity import ModelIdentity, read_identity
from converters.source.name_prefixes import unwrapped
from converters.source.origin import Origin, choices_written, recorded_origin
from converters.source.recognition import recognise, stages_of
from converters.source.tied import EMBEDDING, HEAD, is_tied, of_storage, stated
from converters.source.vocabulary import unpadded

_RANK = {pattern: rank for rank, pattern in enumerate(AXES)}


@dataclass(frozen=True)
class LogicalTensor:
    """shape: as Llama stores it. dtype: a safetensors code. pieces: disjoint, together all of it.
    replicas: the same again from other ranks, which must hold equal bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    replicas: tuple[Piece, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """format: original, hf or llama. facts: name -> value and origin.
    sizes: extent of every axis. choices: what was settled where a layout leaves room.
    tensors: by logical name, in the model's order. dropped: stored names of computed buffers that are left
    out. files: names in the folder. notes: what a person should know of how it was read.
    origin: the original checkpoint that it is, or that its record says it came from. model: which one it is,
    as its record says."""

    folder: Folder
    format: str
    layout: Layout
    grid: Grid
    config: Mapping[str, Any]
    facts: Facts
    choices: Mapping[str, object]
    sizes: Sizes
    tensors: Mapping[str, LogicalTensor]
    dropped: tuple[str, ...]
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()
    origin: Origin | None = None
    model: ModelIdentity | None = None

    @property
    def path(self) -> Path:
        """What errors call it; the directory where it is one."""
        return Path(self.folder.name)

    @property
    def family(self) -> str | None:
        """Whose tables describe it; None for one in Llama's names of which nothing says it."""
        return self.facts["family"].value if "family" in self.facts else None

    def layout_in(self, format: str) -> Layout:
        """Its family's table for a format. Raises MissingFactError if the family matters and is not known,
        UnsupportedError where the format was never published."""
        if self.family is None and not layouts.is_everyones(format):
            raise missing("family", self.folder.name)
        return layouts.layout_of(self.family or "llama", format)

    @property
    def tp(self) -> int:
        return self.grid.tp

    @property
    def pp(self) -> int:
        return self.grid.pp

    def box_of(self, name: str) -> Box:
        """All of a logical tensor."""
        return tuple((0, extent) for extent in shape_of(name, self.sizes))

    def first_byte(self, names: Iterable[str]) -> tuple[int, int]:
        """Where the first of these tensors begins: number of the file, and offset in it."""
        number = {self.folder.where(name): n for n, name in enumerate(self.files)}
        return min(
            (number[piece.file], piece.offset)
            for name in names
            for piece in self.tensors[name].pieces
            if piece.file != ZEROS
        )

    def files_of(self, name: str) -> set[str]:
        """Those in which a logical tensor lies."""
        tensor = self.tensors[name]
        return {PurePath(piece.file).name for piece in (*tensor.pieces, *tensor.replicas)}

    @property
    def tied(self) -> bool:
        """Whether its head is the embedding's bytes."""
        return is_tied(self.choices)

    @property
    def head_again(self) -> bool:
        """Whether a head is stored that is said to be the embedding, which who reads it has to check."""
        by_config = TIED in self.facts and self.facts[TIED].value is True
        return by_config and not self.tied and HEAD in self.tensors

    @property
    def own(self) -> Mapping[str, LogicalTensor]:
        """The tensors without a head that is the embedding."""
        shared = {HEAD} if self.tied or self.head_again else ()
        return {name: tensor for name, tensor in self.tensors.items() if name not in shared}

    @property
    def dtype_by_name(self) -> Mapping[str, str]:
        return {name: tensor.dtype for name, tensor in self.tensors.items()}

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The codes of its tensors' element types."""
        return tuple(sorted(set(self.dtype_by_name.values())))

    @property
    def dtype(self) -> str:
        """The code that most of their bytes have."""
        return usual(self.own.values())


def open_checkpoint(
    path: str | os.PathLike[str] | Folder,
    given: Mapping[str, Any] | None = None,
    known: Mapping[str, Any] | None = None,
    weights: str | None = None,
) -> Checkpoint:
    """Read the headers of a directory, or of another folder, and locate every logical tensor in it.

    given: facts that override the config's, by fact name or config key. known: facts from elsewhere (the
    registry), used where the checkpoint and its format are silent. weights: which of several sets:
    `original`, `hf` or the name of a file.
    Raises NotFoundError, UnsupportedError naming the field, IntegrityError naming tensor, file, shape found
    and expected, UsageError naming a fact that must be given, or two sets of weights one of which is meant.
    """
    folder = local_folder(path) if isinstance(path, str | os.PathLike) else path
    found = discover(folder, weights)
    with explained(found):
        return _opened(found, given, known)


def _opened(
    found: FolderContents, given: Mapping[str, Any] | None, known: Mapping[str, Any] | None
) -> Checkpoint:
    folder = found.folder
    found = unwrapped(found)
    layout = recognise(found)
    config, given = overlaid(found.config, given or {}, layout)
    overrides = given_facts(given, *layouts.LAYOUTS)
    facts = read(layout, config, found.config_file, given=overrides, known=known or {})
    config_file = folder.where(found.config_file)
    notes = check_unread(layout, config, config_file)
    stored, dropped = by_place(layout, found.files)
    record = cache(partial(read_record, folder))  # read where something of it is needed
    facts |= choices_written(record, layout, unsaid_choices(layout, facts))
    facts = dict(stated(layout, facts, config, stored, found.config_file))
    grid = Grid(found.tp, stages_of(layout, stored, found.pp))
    facts, sizes = measure(layout, facts, stored, grid, config_file)
    settled = match(layout, of_storage(layout, facts, stored), sizes, grid, stored, folder.name)
    check_elements(settled)
    own = _tensors(settled, sizes)
    family, of_family = family_of(layout, facts, settled.choices, sizes["vocab"], folder, record)
    opened = Checkpoint(
        folder=folder,
        format=layout.format,
        layout=layout,
        grid=grid,
        config=config,
        facts=_complete(facts, settled, usual(own.values()), family),
        choices=settled.choices,
        sizes=sizes,
        tensors=own | {HEAD: replace(own[EMBEDDING], name=HEAD)} if is_tied(settled.choices) else own,
        dropped=dropped,
        files=tuple(file.name for file in found.weight_files),
        notes=(
            *found.notes,
            *index_note(found),
            *notes,
            *of_family,
            *_mixed(own.values()),
            *_other_dtype(config, usual(own.values())),
        ),
        origin=Origin.of(layout, settled.choices) or recorded_origin(record()),
        model=read_identity(folder, record()),
    )
    return unpadded(opened, config_file)


def _mixed(tensors: Collection[LogicalTensor]) -> tuple[str, ...]:
    found = mixture(tensors)
    return (f"its tensors have several element types: {found}",) if found else ()


def _other_dtype(config: Mapping[str, Any], usual: str) -> Iterator[str]:
    """Stock transformers loads what the config says; here the tensors count, and what is written says so."""
    for key in ("dtype", "torch_dtype"):
        dtype = getattr(config.get(key), "name", config.get(key))
        if isinstance(dtype, str) and dtype.removeprefix("torch.") != dtype_name(usual):
            yield f"its config says {key} {dtype}, and its tensors are {dtype_name(usual)}, which counts"


def _complete(facts: Facts, settled: Match, dtype: str, family: Fact | None) -> dict[str, Fact]:
    chosen = {name: facts.get(name, Fact(value, TENSORS)) for name, value in settled.choices.items()}
    defaults = {
        "kind": Fact("causal", TENSORS),
        "attention_bias": Fact(False, TENSORS),
        "mlp_bias": Fact(False, TENSORS),
    }
    known = {**defaults, **facts, **chosen, "dtype": Fact(dtype_name(dtype), TENSORS)}
    others = {name: fact for name, fact in known.items() if name != "family"}
    return {**others, "family": family} if family else others


def _tensors(settled: Match, sizes: Sizes) -> dict[str, LogicalTensor]:
    pieces: dict[str, list[Piece]] = {}
    replicas: dict[str, list[Piece]] = {}
    dtypes: dict[str, str] = {}
    for cell, tensor in settled.pairs:
        for slab in cell.slabs:
            again = cell.replicated and cell.rank > 0
            (replicas if again else pieces).setdefault(slab.logical, []).append(
                piece_of(slab, tensor, tensor.file)
            )
            dtypes[slab.logical] = tensor.dtype
    return {
        name: LogicalTensor(
            name, dtypes[name], flat_shape(name, sizes), tuple(parts), tuple(replicas.get(name, ()))
        )
        for name, parts in sorted(pieces.items(), key=lambda item: _order(item[0]))
    }


def _order(name: str) -> tuple[int, int, int]:
    """Embedding, layers, norm, head; within a layer as the table of logical tensors has them."""
    rank = _RANK[pattern_of(name)]
    if name.startswith("layers."):
        return 1, int(name.split(".")[1]), rank
    return 0 if name == "embed.weight" else 2, 0, rank
