"""`inspect`: what a folder holds, how each thing is known, and everything that is wrong."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from converters import layouts
from converters.config.facts import TENSORS, Fact, Facts
from converters.containers.container import FolderContents
from converters.containers.discover import index_note
from converters.containers.names import CONFIG
from converters.conversion.md5_files import check_sidecars
from converters.formats.folder import Folder, local_folder
from converters.inspection.contents import Contents, contents_of
from converters.inspection.finding import Finding, finding, noting
from converters.inspection.ranks import duplicates, renamed
from converters.inspection.statistics import TensorStatistics, statistics_of, statistics_of_files
from converters.inspection.survey import Survey, survey
from converters.inspection.suspicions import Told, suspicions, told_by
from converters.inspection.tokenizers import TokenizerFile, against_rows, tokenizer_files, tokenizer_notes
from converters.layouts.table import Layout
from converters.progress import NullProgress, Progress
from converters.source.checkpoint import Checkpoint, open_checkpoint
from converters.streaming.stream import in_parallel

_NAMES = "file names"


@dataclass(frozen=True)
class Inspection:
    """known: what it is, each fact with its origin: file names, tensors, the config's name, format,
    registry, given. nbytes: of the weight files that could be read. findings: what is wrong. statistics: if
    they were asked for, by logical tensor; by file and stored tensor if the checkpoint does not open. notes:
    what a person should know, and nothing is wrong with."""

    name: str
    known: Mapping[str, Fact]
    tokenizer: tuple[TokenizerFile, ...]
    files: int
    nbytes: int
    findings: tuple[Finding, ...]
    statistics: tuple[TensorStatistics, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        return not self.findings


def inspect(
    target: str | os.PathLike[str] | Folder,
    *,
    deep: bool = False,
    given: Mapping[str, Any] | None = None,
    known: Mapping[str, Any] | None = None,
    weights: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Look at headers, and a few samples of weights; deep: at all values, and at MD5 side-cars.

    given, known, weights: as for `open_checkpoint`. Raises NotFoundError if there is no checkpoint,
    UsageError for a given fact that there is not, or if two sets of weights are there one of which is meant,
    UnsupportedError if there are weights of other programs alone; whatever is wrong with a checkpoint that
    is there is a finding.
    """
    folder = local_folder(target) if isinstance(target, str | os.PathLike) else target
    seen = survey(folder, weights)
    refusal: list[Finding] = []
    checkpoint = noting(refusal, partial(open_checkpoint, folder, given, known, weights))
    findings = [*seen.findings, *_of_shards(seen.found, checkpoint)]
    contents = contents_of(seen, given, known) if checkpoint is None else None
    if contents:
        findings += [*contents.findings, *(one for one in refusal if not _explained(one, seen, contents))]
    container, files = seen.found.container, seen.found.weight_files
    if container.parallel:
        findings += [*renamed(folder, files), *duplicates(folder, files)]
    notes = checkpoint.notes if checkpoint else seen.found.notes
    tokenizer, wrong = ((), []) if container.self_contained else tokenizer_files(folder)  # it is in the file
    findings += wrong
    rows = contents.vocab if contents else checkpoint.sizes["vocab"] if checkpoint else None
    findings += against_rows(folder, tokenizer, rows) if rows else ()
    more, wrong = tokenizer_notes(folder, rows) if not wrong else ((), [])
    findings += wrong
    statistics: tuple[TensorStatistics, ...] = ()
    if deep:
        findings += _sidecars(folder, seen, workers)
        statistics = _statistics(seen, checkpoint, workers, progress or NullProgress())
        findings += suspicions(statistics, told_by(checkpoint, tokenizer) if checkpoint else Told())
        for file in files:  # what has passed on the way from a hub, against what the hub says of it
            noting(findings, partial(folder.known_digest, file.name))
    folder.confirm()
    return Inspection(
        folder.name,
        {**_by_names(seen), **(_by_checkpoint(checkpoint) if checkpoint else _by_contents(seen, contents))},
        tokenizer,
        len(files),
        sum(tensor.nbytes for tensor in seen.found.tensors),
        tuple(findings),
        statistics,
        (*(note for note in notes if note not in index_note(seen.found)), *more),
    )


def _of_shards(found: FolderContents, checkpoint: Checkpoint | None) -> Iterator[Finding]:
    """What is missing, of weights that are not whole; else what is wrong with their index."""
    if found.absent and checkpoint is None:
        yield from map(finding, found.absent)
    elif found.stale:
        fix = "all tensors are there: `inspect(fix_index=True)` writes a right index, and convert needs none"
        yield Finding(found.stale, found.folder.where(found.choice.taken.name), fix)


def _explained(refusal: Finding, seen: Survey, contents: Contents) -> bool:
    """Whether the first reason for which it does not open is among those that were found."""
    places = {one.where for one in seen.findings}
    return bool(contents.findings) or not seen.readable or refusal.where in places


def _sidecars(folder: Folder, seen: Survey, workers: int | None) -> list[Finding]:
    findings: list[Finding] = []

    def check(name: str) -> None:
        noting(findings, partial(check_sidecars, folder, [name], 1))

    in_parallel(check, [file.name for file in seen.found.weight_files], workers)
    return sorted(findings, key=lambda one: str(one.where))


def _statistics(
    seen: Survey, checkpoint: Checkpoint | None, workers: int | None, progress: Progress
) -> tuple[TensorStatistics, ...]:
    if checkpoint is not None:
        return statistics_of(checkpoint, workers=workers, progress=progress)
    return statistics_of_files(seen.found.folder, seen.found.weight_files, workers=workers, progress=progress)


def _by_names(seen: Survey) -> dict[str, Fact]:
    named = {"format": seen.found.container.name, "tp": seen.found.tp, "pp": seen.found.pp}
    return {name: Fact(value, _NAMES) for name, value in named.items()}


def _by_contents(seen: Survey, contents: Contents | None) -> dict[str, Fact]:
    """Of a checkpoint that does not open."""
    if contents is None or contents.layout is None:
        return {}
    layout = contents.layout
    others = {name: fact for name, fact in sorted(contents.facts.items()) if name != "family"}
    return {"format": _format(layout), **_family(layout, contents.facts), **others}


def _by_checkpoint(checkpoint: Checkpoint) -> dict[str, Fact]:
    count = sum(math.prod(tensor.shape) for tensor in checkpoint.own.values())
    return {
        "format": _format(checkpoint.layout),
        **_family(checkpoint.layout, checkpoint.facts),
        "parameters": Fact(count, TENSORS),
        "tensors": Fact(len(checkpoint.own), TENSORS),
        "layers per stage": Fact([len(stage) for stage in checkpoint.grid.stages], TENSORS),
        **{name: fact for name, fact in sorted(checkpoint.facts.items()) if name != "family"},
    }


def _family(layout: Layout, facts: Facts) -> dict[str, Fact]:
    """Where the format does not say it, what else does, if anything."""
    if layouts.is_everyones(layout.format):
        return {"family": facts["family"]} if "family" in facts else {}
    origin = CONFIG if layout.container.says_layout else "names of tensors"
    return {"family": Fact(layout.family, origin)}


def _format(layout: Layout) -> Fact:
    return Fact(layout.format, layout.container.known_by)
