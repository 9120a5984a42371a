"""Which family a checkpoint is of. In Llama's names, which are everyone's, it has to be said or be plain.

Facts: rows of the embedding and pieces of the tokenizer.model of released InternLM, InternLM2 (a few
repositories have some rows more), and InternLM3 (padded to 128,512 rows).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from converters import layouts
from converters.config.facts import FORMAT, GIVEN, TENSORS, Fact, Facts
from converters.errors import IntegrityError, UsageError
from converters.formats.folder import Folder
from converters.layouts.table import Layout
from converters.source.files import read_record
from converters.source.weights import RECORD
from converters.tokenizer.model_proto import read_model

_TOKENIZER = "tokenizer.model"


@dataclass(frozen=True)
class Signature:
    """What no other family's checkpoints have. rows: of the embedding. pieces: of tokenizer.model.
    biases: whether attention has them; None: either."""

    family: str
    rows: tuple[int, ...]
    pieces: int
    biases: bool | None = None


SIGNATURES = (
    Signature("internlm", (103168,), 103168),
    Signature("internlm2", (92544, 92548, 92550), 92544, biases=False),
    Signature("internlm3", (128512,), 128133),
)


def family_of(
    layout: Layout, facts: Facts, choices: Mapping[str, object], rows: int, folder: Folder
) -> Fact | None:
    """The family with its origin, None if nothing says it.

    facts: with what was given or the registry says of it. rows: of the embedding. Raises UsageError for a
    family that was given and is none, or is not the checkpoint's.
    """
    stated = facts.get("family")
    if stated is not None and stated.origin == GIVEN:
        _check_given(layout, stated)
    if not layouts.is_everyones(layout.format):
        return Fact(layout.family, TENSORS if layout.grid else FORMAT)
    if stated is not None and stated.origin == GIVEN:
        return stated
    return _recorded(folder) or stated or _by_signature(choices, rows, folder)


def families() -> tuple[str, ...]:
    """Those that have tables of their own."""
    return tuple(
        sorted({layout.family for layout in layouts.LAYOUTS if not layouts.is_everyones(layout.format)})
    )


def _check_given(layout: Layout, given: Fact) -> None:
    possible = families() if layouts.is_everyones(layout.format) else (layout.family,)
    if given.value not in possible:
        raise UsageError(f"family is {given.value!r}", "--set", f"possible here: {' or '.join(possible)}")


def _recorded(folder: Folder) -> Fact | None:
    family = read_record(folder).get("family")
    return Fact(family, RECORD) if family in families() else None


def _by_signature(choices: Mapping[str, object], rows: int, folder: Folder) -> Fact | None:
    biases = choices.get("attention_bias")
    plain = [one for one in SIGNATURES if one.biases in (None, biases)]
    for one in plain:
        if rows in one.rows:
            return Fact(one.family, f"{rows} rows of the embedding")
    pieces = _pieces(folder)
    return next((Fact(one.family, _TOKENIZER) for one in plain if one.pieces == pieces), None)


def _pieces(folder: Folder) -> int | None:
    if _TOKENIZER not in folder.names():
        return None
    try:
        with closing(folder.open(_TOKENIZER)) as file:
            return len(read_model(file).pieces)
    except IntegrityError:
        return None  # whoever needs the tokenizer says what is wrong with it


def notes_on(layout: Layout, family: Fact | None) -> tuple[str, ...]:
    """How it was taken, where the checkpoint does not say it."""
    if not layouts.is_everyones(layout.format) or (family and family.origin in (GIVEN, RECORD, "registry")):
        return ()
    if family is None:
        return ("nothing says which family it is of: --as MODEL or --set family= does, where it matters",)
    return (f"taken for {family.value} by {family.origin}; --set family= says otherwise",)
