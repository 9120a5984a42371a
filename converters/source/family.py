"""Which family a checkpoint is of. In Llama's names, which are everyone's, it has to be said or be plain.

Facts: rows of the embedding and pieces of the tokenizer.model of released InternLM, InternLM2 (a few
repositories have some rows more), and InternLM3 (padded to 128,512 rows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from converters import layouts
from converters.config.facts import FORMAT, GIVEN, TENSORS, Fact, Facts
from converters.containers.names import RECORD
from converters.errors import IntegrityError, UsageError
from converters.formats.folder import Folder
from converters.layouts.table import Layout
from converters.tokenizer.model_proto import count_pieces

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


_GIVE_IT = "`given={'family': NAME}` does, where it matters"


def family_of(
    layout: Layout,
    facts: Facts,
    choices: Mapping[str, object],
    rows: int,
    folder: Folder,
    record: Callable[[], Mapping[str, Any]],
) -> tuple[Fact | None, tuple[str, ...]]:
    """The family with its origin, None if nothing says it or two things say different ones; and notes of how
    it was taken.

    facts: with what was given or the registry says of it. rows: of the embedding. record: of a conversion.
    Raises UsageError for a family that was given and is none, or is not the checkpoint's.
    """
    stated = facts.get("family")
    given = stated if stated is not None and stated.origin == GIVEN else None
    if given:
        _check_given(layout, given)
    if not layouts.is_everyones(layout.format):
        return Fact(layout.family, FORMAT if layout.container.says_layout else TENSORS), ()
    known = given or _recorded(record()) or stated
    return (known, ()) if known else _by_signature(choices, rows, folder)


def families() -> tuple[str, ...]:
    """Those that have tables of their own."""
    return tuple(
        sorted({layout.family for layout in layouts.LAYOUTS if not layouts.is_everyones(layout.format)})
    )


def _check_given(layout: Layout, given: Fact) -> None:
    possible = families() if layouts.is_everyones(layout.format) else (layout.family,)
    if given.value not in possible:
        raise UsageError(f"family is {given.value!r}", "`given`", f"possible here: {' or '.join(possible)}")


def _recorded(record: Mapping[str, Any]) -> Fact | None:
    family = record.get("family")
    return Fact(family, RECORD) if family in families() else None


def _by_signature(
    choices: Mapping[str, object], rows: int, folder: Folder
) -> tuple[Fact | None, tuple[str, ...]]:
    found = list(_signs(choices, rows, folder))
    if not found:
        return None, (f"nothing says which family it is of: {_GIVE_IT}",)
    first, *others = found
    if any(other.value != first.value for other in others):
        either = " and ".join(f"{fact.value} by {fact.origin}" for fact in found)
        return None, (f"it would be {either}, so nothing says which family it is of: {_GIVE_IT}",)
    return first, (f"taken for {first.value} by {first.origin}; `given={{'family': NAME}}` says otherwise",)


def _signs(choices: Mapping[str, object], rows: int, folder: Folder) -> Iterator[Fact]:
    plain = [one for one in SIGNATURES if one.biases in (None, choices.get("attention_bias"))]
    yield from (Fact(one.family, f"{rows} rows of the embedding") for one in plain if rows in one.rows)
    pieces = _pieces(folder)
    yield from (Fact(one.family, _TOKENIZER) for one in plain if one.pieces == pieces)


def _pieces(folder: Folder) -> int | None:
    if _TOKENIZER not in folder.names():
        return None
    try:
        return count_pieces(folder, _TOKENIZER)
    except IntegrityError:
        return None  # whoever needs the tokenizer says what is wrong with it
