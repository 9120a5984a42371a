"""`inspect`: what a folder holds, how each thing is known, and everything that is wrong."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from converters.checkpoint import Checkpoint, open_checkpoint
from converters.errors import ZooError
from converters.facts import Fact
from converters.formats.folder import Folder, local_folder
from converters.inspection.duplicates import duplicates
from converters.inspection.finding import Finding, finding
from converters.inspection.statistics import TensorStatistics, statistics_of, suspicions
from converters.inspection.survey import Survey, survey
from converters.inspection.tokenizers import TokenizerFile, tokenizer_files
from converters.progress import Progress, Silence
from converters.sidecars import check_sidecars

_NAMES, _TENSORS = "file names", "tensors"


@dataclass(frozen=True)
class Inspection:
    """known: what it is, each fact with its origin: file names, tensors, the config's name, format,
    registry, given. nbytes: of the weight files that could be read. findings: what is wrong. statistics: by
    tensor, if they were asked for and the checkpoint is whole."""

    name: str
    known: Mapping[str, Fact]
    tokenizer: tuple[TokenizerFile, ...]
    files: int
    nbytes: int
    findings: tuple[Finding, ...]
    statistics: tuple[TensorStatistics, ...] = ()

    @property
    def sound(self) -> bool:
        return not self.findings


def inspect(
    target: str | os.PathLike[str] | Folder,
    *,
    deep: bool = False,
    given: Mapping[str, Any] | None = None,
    known: Mapping[str, Any] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Look at headers, and a few samples of weights; deep: at all values, and at MD5 side-cars.

    given, known: as for `open_checkpoint`. Raises NotFoundError if there is no checkpoint; whatever is wrong
    with one that is there is a finding.
    """
    folder = local_folder(target) if isinstance(target, str | os.PathLike) else target
    seen = survey(folder)
    findings = list(seen.findings)
    if seen.format == "original":
        findings += duplicates(folder, seen.files)
    checkpoint, refused = _open(folder, given, known)
    if refused is not None and (not findings or not _said(refused, findings)):
        findings.append(refused)
    tokenizer, wrong = _tokenizer(folder, checkpoint)
    findings += wrong
    found: tuple[TensorStatistics, ...] = ()
    if deep and checkpoint is not None:
        findings += _sidecars(checkpoint, workers)
        found = statistics_of(checkpoint, workers=workers, progress=progress or Silence())
        findings += suspicions(found)
    return Inspection(
        folder.name,
        _known(seen, checkpoint),
        tokenizer,
        len(seen.files),
        sum(tensor.nbytes for file in seen.files for tensor in file.tensors.values()),
        tuple(findings),
        found,
    )


def _open(
    folder: Folder, given: Mapping[str, Any] | None, known: Mapping[str, Any] | None
) -> tuple[Checkpoint | None, Finding | None]:
    try:
        return open_checkpoint(folder, given, known), None
    except ZooError as error:
        return None, finding(error)


def _said(refused: Finding, findings: list[Finding]) -> bool:
    """Whether the reason for which it does not open was found before: then that is about the same place, or
    what is wrong with the files themselves."""
    return any(one.what == refused.what or one.where == refused.where for one in findings)


def _tokenizer(
    folder: Folder, checkpoint: Checkpoint | None
) -> tuple[tuple[TokenizerFile, ...], list[Finding]]:
    try:
        files = tokenizer_files(folder)
    except ZooError as error:
        return (), [finding(error)]
    if not files:
        return (), [Finding("there is no tokenizer", folder.name, "put the family's tokenizer.model there")]
    rows = checkpoint.sizes["vocab"] if checkpoint is not None else None
    return files, [
        Finding(
            f"it gives ids up to {file.size - 1}, and the embedding has {rows} rows",
            folder.where(file.name),
            "it belongs to another model",
        )
        for file in files
        if rows is not None and file.size > rows
    ]


def _sidecars(checkpoint: Checkpoint, workers: int | None) -> Iterator[Finding]:
    try:
        check_sidecars(checkpoint.folder, checkpoint.files, workers)
    except ZooError as error:
        yield finding(error)


def _known(seen: Survey, checkpoint: Checkpoint | None) -> dict[str, Fact]:
    names = {"format": Fact(seen.format, _NAMES), "tp": Fact(seen.tp, _NAMES), "pp": Fact(seen.pp, _NAMES)}
    tensors = [tensor for file in seen.files for tensor in file.tensors.values()]
    if checkpoint is None:
        dtypes = sorted({tensor.dtype for tensor in tensors})
        return {**names, "dtype": Fact(" and ".join(dtypes) or None, _TENSORS)}
    count = sum(math.prod(tensor.shape) for tensor in checkpoint.tensors.values())
    return {
        **names,
        "format": Fact(checkpoint.format, _NAMES if checkpoint.layout.grid else "config.json"),
        "family": Fact(checkpoint.family, _family_origin(checkpoint)),
        "parameters": Fact(count, _TENSORS),
        "tensors": Fact(len(checkpoint.tensors), _TENSORS),
        "layers per stage": Fact([len(stage) for stage in checkpoint.grid.stages], _TENSORS),
        **dict(sorted(checkpoint.facts.items())),
    }


def _family_origin(checkpoint: Checkpoint) -> str:
    if checkpoint.layout.grid:
        return "names of tensors"
    return "config.json" if checkpoint.format == "hf" else "conversion.json, or biases of attention"
