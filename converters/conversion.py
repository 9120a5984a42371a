"""From one directory to another: plan, write, check, publish."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters import discover, record
from converters.carry import TokenizerFacts, carry
from converters.checkpoint import RECORD, Checkpoint, open_checkpoint
from converters.describe import notes_of
from converters.engines import THREADS, Engine, open_engine
from converters.errors import IntegrityError, UsageError
from converters.execute import Stream, check_replicas
from converters.formats import shards, torchzip
from converters.formats.folder import Folder, LocalFolder
from converters.gather import Sources
from converters.options import KEEP, ConversionOptions
from converters.plan import Plan, normalised, plan_conversion
from converters.progress import Progress, Silence, byte_count
from converters.sidecars import check_sidecars
from converters.sinks.digests import fingerprint_of
from converters.sinks.files import write_json
from converters.sinks.space import check_space, full_disk_named
from converters.sinks.staging import Staging


@dataclass(frozen=True)
class Report:
    """path: the target. files: weight files in it. nbytes: of those. kept: files that an interrupted run had
    finished. notes: what a person should know. fingerprints: logical name -> digest, equal to the
    source's."""

    path: Path
    plan: Plan
    files: tuple[str, ...]
    nbytes: int
    kept: tuple[str, ...]
    notes: tuple[str, ...]
    fingerprints: Mapping[str, str]


@dataclass(frozen=True)
class Execution:
    """How a conversion is carried out, which leaves the weights the same.

    workers: threads; one per processor, at most 4, unless given. force: replace a target that is not empty.
    evidence: digest the input files and hold every tensor of the result against the source. engine: threads,
    or ray, which writes on the nodes of a cluster.
    """

    workers: int | None = None
    force: bool = False
    evidence: bool = True
    engine: str = THREADS


AskedOnceOpen = Callable[[Checkpoint], TokenizerFacts]


def nothing_known(source: Checkpoint) -> TokenizerFacts:
    """For checkpoints of which no registry knows anything."""
    return TokenizerFacts()


def convert(
    src: str | os.PathLike[str] | Folder,
    dst: str | os.PathLike[str],
    *,
    to: str,
    tp: int = 1,
    pp: int = 1,
    max_shard_size: str | int = "5GB",
    dtype: str = KEEP,
    accept_lossy: bool = False,
    tokenizer: str | os.PathLike[str] | None = None,
    given: Mapping[str, Any] | None = None,
    known: Mapping[str, Any] | None = None,
    tokenizer_facts: AskedOnceOpen = nothing_known,
    workers: int | None = None,
    force: bool = False,
    evidence: bool = True,
    engine: str = THREADS,
    progress: Progress | None = None,
) -> Report:
    """`carry_out` with the options and the execution spelled out; both say what each of them means."""
    options = ConversionOptions(
        to=to,
        tp=tp,
        pp=pp,
        max_shard_size=max_shard_size,
        dtype=dtype,
        accept_lossy=accept_lossy,
        given=given or {},
        tokenizer=Path(tokenizer) if tokenizer else None,
    )
    execution = Execution(workers, force, evidence, engine)
    return carry_out(
        src, dst, options, execution, known=known, tokenizer_facts=tokenizer_facts, progress=progress
    )


def carry_out(
    src: str | os.PathLike[str] | Folder,
    dst: str | os.PathLike[str],
    options: ConversionOptions,
    execution: Execution,
    *,
    known: Mapping[str, Any] | None = None,
    tokenizer_facts: AskedOnceOpen = nothing_known,
    progress: Progress | None = None,
) -> Report:
    """Convert a checkpoint directory, or another folder that holds a checkpoint.

    known: facts that stand in where the source is silent. tokenizer_facts: what a sentencepiece model does
    not say of itself, asked once the source is open.
    `dst` appears when all of it is written and checked; an interrupted run goes on where it stopped.
    Raises NotFoundError, UsageError, UnsupportedError and IntegrityError as `open_checkpoint`,
    `plan_conversion` and `open_engine` do, IntegrityError if the result is not the source, NoSpaceError.
    """
    source = open_checkpoint(src, options.given, known)
    plan = plan_conversion(source, options)
    target = Path(dst)
    if isinstance(source.folder, LocalFolder) and source.path.resolve().is_relative_to(target.resolve()):
        raise UsageError("the target would replace its own source", target, "choose another target")
    staging = Staging(target, force=execution.force)
    space = check_space(plan, staging, execution.engine)
    told = progress or Silence()
    with (
        open_engine(execution.engine, source.folder) as write_files,
        staging.dropped_if_wrong(),
        full_disk_named(staging.target),
    ):
        told.note(f"needs {byte_count(space.needed)}; {byte_count(space.free)} are free")
        check_sidecars(source.folder, source.files, execution.workers)
        return _run(plan, staging, target, tokenizer_facts, execution, write_files, told)


def _run(
    plan: Plan,
    staging: Staging,
    target: Path,
    tokenizer_facts: AskedOnceOpen,
    execution: Execution,
    write_files: Engine,
    told: Progress,
) -> Report:
    workers, evidence = execution.workers, execution.evidence
    with Sources(plan.source.folder) as files:
        check_replicas(plan.source, files)
        staging.begin(plan, execution.engine)
        notes = carry(
            plan.source,
            staging.path,
            plan.layout.format,
            plan.options.tokenizer,
            tokenizer_facts(plan.source),
        )
        _write_configs(plan, staging.path)
        stream = Stream(plan.source, files, plan.normalised, plan.dtype)
        written = write_files(plan, stream, staging.path, workers, evidence, told)
    with ThreadPoolExecutor(1) as aside:  # a lone large input would keep one processor busy, and one idle
        inputs = aside.submit(record.input_digests, plan.source, evidence=evidence, workers=workers)
        fingerprints = _prove(plan, written.digests, staging.path, workers, told) if evidence else {}
    write_json(staging.path / RECORD, record.content(plan, staging.path, inputs.result(), fingerprints))
    staging.publish()
    notes = (*notes_of(plan), *notes)
    return Report(
        target, plan, tuple(file.name for file in plan.files), plan.nbytes, written.kept, notes, fingerprints
    )


def _write_configs(plan: Plan, path: Path) -> None:
    if plan.layout.grid:
        torchzip.write_object(path / discover.MODEL_CONFIG, dict(plan.config))
        return
    write_json(path / discover.CONFIG, plan.config)
    if len(plan.shards) > 1:
        (path / shards.SAFETENSORS_INDEX).write_text(shards.index_json(plan.shards), encoding="utf-8")


def _prove(
    plan: Plan, passed: Mapping[str, str], path: Path, workers: int | None, progress: Progress
) -> Mapping[str, str]:
    """Read the result back as anyone would, and hold every logical tensor against the source's bytes.

    passed: digests taken as they passed; the source's other tensors are read once more."""
    # A head that stays unnormalised counts as what it is in the forward pass; one that was normalised before
    # does not count the same once it is normalised again.
    raw = normalised(plan.source, {}) - plan.normalised
    wanted = fingerprint_of(
        plan.source,
        known={name: digest for name, digest in passed.items() if name not in raw},
        dtype=plan.dtype,
        workers=workers,
        progress=progress,
        task="fingerprint of the source",
    )
    result = open_checkpoint(path)
    found = fingerprint_of(
        result,
        as_counted=not plan.lossy,
        workers=workers,
        progress=progress,
        task="fingerprint of the result",
    )
    for name in wanted.keys() | found.keys():
        if wanted.get(name) != found.get(name):
            raise IntegrityError(
                f"{name} is not in the result what it is in the source",
                path,
                "the disk may be failing: run it again",
            )
    if not plan.lossy:
        return found
    known = {name: digest for name, digest in found.items() if name not in plan.lossy}
    return fingerprint_of(result, known=known, workers=workers)
