"""From one directory to another: plan, write, check, publish."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from converters.auxiliary.prepare import AuxiliaryFiles, prepare_auxiliary
from converters.auxiliary.tokens import TokenizerFacts
from converters.containers.files import write_json
from converters.containers.names import RECORD
from converters.conversion.evidence import prove
from converters.conversion.md5_files import check_sidecars
from converters.conversion.naming import identity_of, notes_on_name
from converters.conversion.reuse import held_against
from converters.engines import THREADS, Engine, open_engine
from converters.errors import IntegrityError, UsageError
from converters.formats.folder import Folder, LocalFolder
from converters.options import PLACES, ConversionOptions
from converters.path_result import PathResult
from converters.planning.describe import notes_of, notes_on_head
from converters.planning.plan import Plan, plan_conversion
from converters.progress import NullProgress, Progress, byte_count
from converters.record import record
from converters.sinks.space import check_space, refusals_named
from converters.sinks.staging import Staging
from converters.source.checkpoint import Checkpoint, open_checkpoint
from converters.source.gather import Sources
from converters.source.model_identity import ModelIdentity, read_identity
from converters.streaming.stream import Stream, check_replicas
from converters.system.filesystem import scratch
from converters.system.threads import alongside


@dataclass(frozen=True)
class Report(PathResult):
    """What a conversion made; it stands for its directory, `path`. files: of weights. nbytes: of those.
    kept: files that an interrupted run had finished. notes: what a person should know. fingerprints: logical
    name -> digest, equal to the source's. unchanged: the target was this result already, and nothing was
    written. model: which one it is, where that is known."""

    path: Path
    plan: Plan
    files: tuple[str, ...]
    nbytes: int
    kept: tuple[str, ...]
    notes: tuple[str, ...]
    fingerprints: Mapping[str, str]
    unchanged: bool = False
    model: ModelIdentity | None = None


@dataclass(frozen=True)
class Execution:
    """How a conversion is carried out, which leaves the weights the same.

    workers: threads; one per processor, at most 4, unless given. force: replace a target that is not empty.
    evidence: digest the input files and hold every tensor of the result against the source. engine: threads,
    or ray, which writes on the nodes of a cluster. cluster: its host:port; None for one that Ray finds.
    """

    workers: int | None = None
    force: bool = False
    evidence: bool = True
    engine: str = THREADS
    cluster: str | None = None


AskedOnceOpen = Callable[[Checkpoint], TokenizerFacts]


def nothing_known(source: Checkpoint) -> TokenizerFacts:
    """For checkpoints of which no registry knows anything."""
    return TokenizerFacts()


def convert(
    src: str | os.PathLike[str] | Folder,
    dst: str | os.PathLike[str],
    *,
    known: Mapping[str, Any] | None = None,
    tokenizer_facts: AskedOnceOpen = nothing_known,
    identity: ModelIdentity | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Report:
    """`carry_out` with the fields of ConversionOptions and of Execution as keywords."""
    how = {field.name: options.pop(field.name) for field in fields(Execution) if field.name in options}
    options |= {name: Path(options[name]) for name in PLACES if options.get(name)}
    what, execution = ConversionOptions(**options | {"given": options.get("given") or {}}), Execution(**how)
    return carry_out(
        src,
        dst,
        what,
        execution,
        known=known,
        tokenizer_facts=tokenizer_facts,
        identity=identity,
        progress=progress,
    )


def carry_out(
    src: str | os.PathLike[str] | Folder,
    dst: str | os.PathLike[str],
    options: ConversionOptions,
    execution: Execution,
    *,
    known: Mapping[str, Any] | None = None,
    tokenizer_facts: AskedOnceOpen = nothing_known,
    identity: ModelIdentity | None = None,
    progress: Progress | None = None,
) -> Report:
    """Convert a checkpoint directory, or another folder that holds a checkpoint.

    known: facts that stand in where the source is silent. tokenizer_facts: what a sentencepiece model does
    not say of itself, asked once the source is open. identity: which model it is; None: as its record says.
    `dst` appears when all of it is written and checked; an interrupted run goes on where it stopped. What is
    there already from the same source with the same options stays as it is.
    Raises NotFoundError, UsageError, UnsupportedError and IntegrityError as `open_checkpoint`,
    `plan_conversion` and `open_engine` do, IntegrityError if the result is not the source, NoSpaceError.
    """
    source = open_checkpoint(src, options.given, known, options.weights)
    auxiliary = prepare_auxiliary(source, options, tokenizer_facts(source))
    plan = plan_conversion(auxiliary.source, options, auxiliary.held)
    target = Path(dst)
    if isinstance(source.folder, LocalFolder) and _below(source.path, target):
        raise UsageError("the target would replace its own source", target, "choose another target")
    progress = progress or NullProgress()
    staging = Staging(target)
    with refusals_named(staging.target), staging.alone(progress.note):
        if staging.occupied and not execution.force:
            report = _already_there(plan, target, auxiliary, identity, execution.workers, progress)
            staging.sweep()
            return report
        space = check_space(plan, staging, execution.engine)
        with (
            open_engine(execution.engine, source.folder, execution.cluster) as write_files,
            staging.dropped_if_wrong(),
        ):
            free = "an unknown amount is" if space.free is None else f"{byte_count(space.free)} are"
            progress.note(f"needs {byte_count(space.needed)}; {free} free")
            check_sidecars(source.folder, source.files, execution.workers)
            return _run(plan, staging, target, auxiliary, identity, execution, write_files, progress)


def _below(path: Path, parent: Path) -> bool:
    """Links followed, also where they lead nowhere."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(parent))


def _run(
    plan: Plan,
    staging: Staging,
    target: Path,
    auxiliary: AuxiliaryFiles,
    identity: ModelIdentity | None,
    execution: Execution,
    write_files: Engine,
    progress: Progress,
) -> Report:
    workers, evidence = execution.workers, execution.evidence
    source = plan.source
    with Sources(source.folder, confirmed=False) as files:
        check_replicas(plan.source, files)
        staging.begin(plan, execution.engine)
        _write_others(plan, staging.path, auxiliary)
        stream = Stream(plan.supply, files, plan.normalised, plan.elements)
        written = write_files(plan, stream, staging.path, workers, evidence, progress)
    readable = evidence and not plan.quantised
    touched = source.folder.renew(source.files if readable else ())
    # Beside it, for a lone large input would keep one processor busy, and one idle.
    inputs = alongside(partial(record.input_digests, source, evidence=evidence, workers=workers))
    fingerprints: Mapping[str, str] = {}
    if readable:
        fingerprints = _proved(plan, written.digests, touched, staging.path, workers, progress)
    model = identity_of(plan, identity, fingerprints, evidence, workers, progress)
    document = record.content(plan, staging.path, inputs(), fingerprints, model=model, evidence=evidence)
    write_json(staging.path / RECORD, document)
    source.folder.confirm()
    staging.publish()
    return _report(plan, target, fingerprints, model, kept=written.kept)


def _proved(
    plan: Plan,
    passed: Mapping[str, str],
    touched: Mapping[str, IntegrityError],
    path: Path,
    workers: int | None,
    progress: Progress,
) -> Mapping[str, str]:
    """The fingerprints of the result. touched: files of the source whose tensors are read a second time, each
    with what is wrong if they are others then."""
    known = {name: it for name, it in passed.items() if not plan.source.files_of(name) & touched.keys()}
    try:
        return prove(plan, known, path, workers, progress)
    except IntegrityError as error:
        raise next(iter(touched.values()), error) from error


def _already_there(
    plan: Plan,
    target: Path,
    auxiliary: AuxiliaryFiles,
    identity: ModelIdentity | None,
    workers: int | None,
    progress: Progress,
) -> Report:
    """Raises UsageError if it is another result than the plan's."""
    with scratch() as made:
        _write_others(plan, made, auxiliary)
        model = identity or plan.source.model
        name = model.name if model else None
        fingerprints = held_against(plan, target, made, name, workers, progress)
    return _report(plan, target, fingerprints, read_identity(LocalFolder(target)), unchanged=True)


def _report(
    plan: Plan,
    target: Path,
    fingerprints: Mapping[str, str],
    model: ModelIdentity | None,
    *,
    kept: tuple[str, ...] = (),
    unchanged: bool = False,
) -> Report:
    files = tuple(file.name for file in plan.files)
    notes = (*notes_of(plan), *notes_on_head(plan, fingerprints), *notes_on_name(model))
    return Report(target, plan, files, plan.nbytes, kept, notes, fingerprints, unchanged, model)


def _write_others(plan: Plan, path: Path, auxiliary: AuxiliaryFiles) -> None:
    """All but the weights."""
    plan.layout.container.write_config(path, plan.config, plan.files)
    auxiliary.write(path)
