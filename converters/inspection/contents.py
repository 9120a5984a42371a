"""What a checkpoint that does not open holds after all, and everything about it that does not fit.

Runs the steps of `open_checkpoint` on what could be read, each as far as it gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

from converters import layouts
from converters.config.facts import TENSORS, Fact, Facts, dtype_name, given_facts, read
from converters.config.unread import check_unread, overlaid
from converters.containers.container import FolderContents, Place
from converters.formats.tensors import StoredTensor
from converters.geometry.cells import Grid
from converters.inspection.finding import Finding, noting
from converters.inspection.survey import Survey
from converters.layouts.table import Layout
from converters.source.elements import UNQUANTISED, at_odds, no_floats, usual
from converters.source.match import Mismatch, Stored, by_place, complaints
from converters.source.measure import measure
from converters.source.name_prefixes import unwrapped
from converters.source.recognition import recognise, stages_of
from converters.source.tied import of_storage, stated

_ONE_CHECKPOINT = "check that all files belong to one checkpoint, and to this config"
_ENDS = (("first", "embed.weight"), ("last", "head.weight"))


@dataclass(frozen=True)
class Contents:
    """layout, vocab (rows of the embedding): None if that could not be made out."""

    layout: Layout | None
    facts: Facts
    vocab: int | None
    findings: tuple[Finding, ...]


def contents_of(
    seen: Survey, given: Mapping[str, Any] | None = None, known: Mapping[str, Any] | None = None
) -> Contents:
    """given, known: as for `open_checkpoint`. Raises UsageError for a given fact that there is not."""
    findings: list[Finding] = []
    seen = replace(seen, found=unwrapped(seen.found))
    found = seen.found
    readable = found.weight_files and (found.configured or not found.container.says_layout)
    layout = noting(findings, partial(recognise, found)) if readable else None
    if layout is None:
        return Contents(None, given_facts(given or {}, *layouts.LAYOUTS), None, tuple(findings))
    config, others = overlaid(found.config, given or {}, layout)
    overrides = given_facts(others, *layouts.LAYOUTS)
    reading = partial(read, layout, config, found.config_file, given=overrides, known=known or {})
    facts = noting(findings, reading)
    noting(findings, partial(check_unread, layout, config, found.folder.where(found.config_file)))
    placed = noting(findings, partial(by_place, layout, found.files))
    if placed is None:
        return Contents(layout, facts or overrides, None, tuple(findings))
    stored = placed[0]
    if facts is not None:
        facts = dict(of_storage(layout, stated(layout, facts, config, stored, ""), stored))
    misplaced = list(_misplaced(layout, stored, found))
    vocab = _vocabulary(layout, stored, found.tp)
    findings += [*misplaced, *_odd_dtypes(stored)]
    if facts is not None and found.configured:
        findings += _against_config(layout, facts, stored, seen, vocab)
        misfits = _misfits(findings, layout, facts, stored, seen, vocab)
        findings += _by_file(
            [one for one in misfits if one.where not in {other.where for other in misplaced}]
        )
    dtype = dtype_name(usual(tensor for tensors in stored.values() for tensor in tensors.values()))
    known_facts = {**(facts or overrides), "dtype": Fact(dtype, TENSORS)}
    return Contents(layout, known_facts, vocab, tuple(findings))


def _misplaced(layout: Layout, stored: Stored, found: FolderContents) -> Iterator[Finding]:
    """Files whose names say the first or last stage, and whose tensors do not, or the other way round."""
    if not layout.container.parallel:
        return
    for (rank, stage), tensors in sorted(stored.items()):
        for end, logical in _ENDS:
            spellings = [name for row in layout.rows if row.holds[0] == logical for name in row.stored]
            held = [name for name in spellings if name in tensors]
            should = stage == (0 if end == "first" else found.pp - 1)
            if bool(held) is should:
                continue
            holds = f"{held[0]}, which only the {end} stage has" if held else f"no {spellings[0]}"
            what = f"its name says stage {stage} of {found.pp}, and it holds {holds}"
            fix = "it may have been renamed, or stages may be missing: fetch them again"
            yield Finding(what, found.files[rank, stage][0].where, fix)
            break


def _odd_dtypes(stored: Stored) -> Iterator[Finding]:
    parts = [((stage, name), tensor) for (_, stage), held in stored.items() for name, tensor in held.items()]
    yield from _by_file(list(no_floats(tensor for _, tensor in parts)), UNQUANTISED)
    yield from _by_file(list(at_odds(parts)))


def _by_file(misfits: Sequence[Mismatch], fix: str = _ONE_CHECKPOINT) -> Iterator[Finding]:
    """The first of each file, and how many more there are."""
    ordered = sorted(misfits, key=lambda misfit: (misfit.where, misfit.what))
    for where, members in groupby(ordered, key=lambda misfit: misfit.where):
        first, *more = members
        rest = f" (and {len(more)} more in it)" if more else ""
        yield Finding(first.what + rest, where, fix)


def _vocabulary(layout: Layout, stored: Stored, tp: int) -> int | None:
    """Rows of the head, which is always cut along them, else of the embedding if that is whole."""
    for logical in ("head.weight", *(["embed.weight"] if tp == 1 else [])):
        for row in (row for row in layout.rows if row.holds[0] == logical):
            spelt = (tensors[name] for tensors in stored.values() for name in row.stored if name in tensors)
            tensor = next(spelt, None)
            if tensor is not None and tensor.shape:
                return tensor.shape[0] * (tp if row.split == "vocab" else 1)
    return None


def _against_config(
    layout: Layout, facts: Facts, stored: Stored, seen: Survey, vocab: int | None
) -> Iterator[Finding]:
    where = seen.found.folder.where(seen.found.config_file)
    if vocab is not None and "vocab_size" in facts and facts["vocab_size"].value != vocab:
        what = f"vocab_size is {facts['vocab_size'].value}, and the embedding has {vocab} rows"
        yield Finding(what, where, "the config or the weights belong to another model")
    if seen.found.whole and "num_layers" in facts:
        layers = _stages(layout, stored, seen)[-1].stop
        if facts["num_layers"].value != layers:
            what = f"its files hold {layers} layers, and its config says {facts['num_layers'].value}"
            yield Finding(what, where)


def _stages(layout: Layout, stored: Stored, seen: Survey) -> tuple[range, ...]:
    return stages_of(layout, _first_ranks(stored, seen.found.pp), seen.found.pp)


def _first_ranks(stored: Stored, pp: int) -> Stored:
    """Of every stage, with another rank in the first one's place where that could not be read."""
    filled: dict[Place, Mapping[str, StoredTensor]] = dict(stored)
    for stage in range(pp):
        others = (tensors for (_, other), tensors in sorted(stored.items()) if other == stage)
        filled[0, stage] = next(others, {})
    return filled


def _misfits(
    findings: list[Finding], layout: Layout, facts: Facts, stored: Stored, seen: Survey, vocab: int | None
) -> Sequence[Mismatch]:
    """Against the table, but for what was said of the config's vocabulary and layers already."""
    sound = {name: fact for name, fact in facts.items() if name != "num_layers"}
    if vocab is not None:
        sound["vocab_size"] = Fact(vocab, TENSORS)
    folder = seen.found.folder
    grid = Grid(seen.found.tp, _stages(layout, stored, seen))
    filled = _first_ranks(stored, grid.pp)
    refused: list[Finding] = []
    where = folder.where(seen.found.config_file)
    measured = noting(refused, partial(measure, layout, sound, filled, grid, where))
    if measured is None:
        findings += refused if seen.found.whole else ()
        return ()
    comparing = partial(complaints, layout, *measured, grid, stored, folder.name)
    misfits = noting(findings, comparing) or ()
    all_count = seen.found.whole or seen.found.container.parallel  # else some are missing as a shard is
    return [misfit for misfit in misfits if all_count or not misfit.absent]
