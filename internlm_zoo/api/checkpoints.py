"""What is done with checkpoints: converting, looking into them, holding one against another."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.redaction import errors_redacted
from internlm_zoo.progress import Progress
from internlm_zoo.settings import Settings, set_for_libraries

if TYPE_CHECKING:
    from converters import Comparison, ConversionOptions, Inspection, Plan, Report
    from internlm_zoo.loading.logits import LogitsComparison


@errors_redacted()
def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    to: str,
    tp: int = 1,
    pp: int = 1,
    max_shard_size: str | int = "5GB",
    dtype: str = "keep",
    accept_lossy: bool = False,
    pad_vocab_to_multiple: int = 1,
    tokenizer: str | os.PathLike[str] | None = None,
    no_tokenizer: bool = False,
    code: str | os.PathLike[str] | None = None,
    given: Mapping[str, Any] | None = None,
    known_as: str | None = None,
    weights: str | None = None,
    from_hub: bool = False,
    workers: int | None = None,
    engine: str = "threads",
    force: bool = False,
    evidence: bool = True,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> Report:
    """Convert a checkpoint to `dst`, which stays as it is where it is the result already. The report is a
    path, that of `dst`.

    src: a directory in original, hf, llama or gguf format, or a model of the registry; with from_hub it or
    `hub:repo[@revision]` is read where it is, not stored. known_as: the registry model that it holds.
    to, tp, pp, max_shard_size, dtype, accept_lossy, pad_vocab_to_multiple, tokenizer, no_tokenizer, code,
    given, weights: what to make, as of `converters.ConversionOptions`.
    workers, engine, force, evidence: how, as of `converters.Execution`.
    progress: is told what happens. settings: instead of the environment's.
    Raises UsageError, NotFoundError, UnsupportedError (naming the field), IntegrityError, NoSpaceError, and
    what the hubs make `download` raise.
    """
    from converters import ConversionOptions, Execution
    from internlm_zoo.checkpoints.conversion import ConversionSource
    from internlm_zoo.checkpoints.conversion import convert as run

    options = ConversionOptions(
        to=to,
        tp=tp,
        pp=pp,
        max_shard_size=max_shard_size,
        dtype=dtype,
        accept_lossy=accept_lossy,
        pad_vocab_to_multiple=pad_vocab_to_multiple,
        given=given or {},
        tokenizer=Path(tokenizer) if tokenizer else None,
        weights=weights,
        no_tokenizer=no_tokenizer,
        code=Path(code) if code else None,
    )
    source = ConversionSource(os.fspath(src), known_as=known_as, from_hub=from_hub)
    settings = Settings.or_environment(settings)
    cluster = settings.environ.get("RAY_ADDRESS")
    execution = Execution(workers=workers, force=force, evidence=evidence, engine=engine, cluster=cluster)
    if engine == "ray":  # what it says of a lost worker would be printed among the results
        set_for_libraries({"RAY_DEDUP_LOGS_SKIP_REGEX": "."})
    return run(source, Path(dst), options, execution, settings=settings, progress=progress)


@errors_redacted()
def plan_conversion(
    src: str | os.PathLike[str],
    options: ConversionOptions,
    *,
    known_as: str | None = None,
    from_hub: bool = False,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> Plan:
    """What `convert` would write, from headers alone: every tensor, file, fact and byte count.

    options: what to make. src, known_as, from_hub, progress, settings: as of `convert`.
    Raises what `convert` raises before it writes.
    """
    from internlm_zoo.checkpoints.conversion import ConversionSource, plan

    source = ConversionSource(os.fspath(src), known_as=known_as, from_hub=from_hub)
    return plan(source, options, settings=Settings.or_environment(settings), progress=progress)


@errors_redacted()
def inspect(
    target: str | os.PathLike[str],
    *,
    deep: bool = False,
    fix_index: bool = False,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> Inspection:
    """What a checkpoint is, how that is known, and what is wrong with it.

    target: a directory; a model of the registry, in the store or else where a hub has it;
    `hub:repo[@revision]`; a URL. What is on the network is read by ranges and not stored.
    deep: read all weights, for the statistics of each tensor. fix_index: first write a right index where
    whole weights have a wrong one or none. known_as: the registry model that it holds. given: facts that it
    does not state. weights: which of several sets: `original`, `hf` or the name of a file. workers: threads.
    progress: is told what happens. settings: instead of the environment's.
    Raises NotFoundError if it holds no checkpoint, and what reading from a hub raises.
    """
    from internlm_zoo.checkpoints.inspection import InspectionRequest
    from internlm_zoo.checkpoints.inspection import inspect as look

    name, settings = os.fspath(target), Settings.or_environment(settings)
    request = InspectionRequest(
        name, deep=deep, fix_index=fix_index, known_as=known_as, given=given, weights=weights, workers=workers
    )
    return look(request, settings=settings, progress=progress)


@errors_redacted()
def fingerprint(
    path: str | os.PathLike[str],
    *,
    given: Mapping[str, Any] | None = None,
    weights: str | None = None,
    workers: int | None = None,
) -> dict[str, str]:
    """One digest per logical tensor, in hex: the same for the same weights, whatever the format or grid.

    path: a directory. given, weights, workers: as of `inspect`.
    Raises NotFoundError, UnsupportedError and IntegrityError, also for ranks that disagree.
    """
    import converters

    return converters.fingerprint(path, given=given, weights=weights, workers=workers)


@errors_redacted()
def compare(
    one: str | os.PathLike[str],
    other: str | os.PathLike[str],
    *,
    given: Mapping[str, Any] | None = None,
    weights: tuple[str | None, str | None] = (None, None),
    workers: int | None = None,
) -> Comparison:
    """Whether two checkpoints are identical, the same in another layout, rounded, or different.

    one, other: directories of any format. given: facts that the configs do not state. weights: which of
    several sets, of either. workers: threads.
    Raises what `fingerprint` raises.
    """
    import converters

    return converters.compare(one, other, given=given, weights=weights, workers=workers)


@errors_redacted()
def compare_logits(
    one: str | os.PathLike[str],
    other: str | os.PathLike[str],
    *,
    known_as: str | None = None,
    given: Mapping[str, Any] | None = None,
    weights: tuple[str | None, str | None] = (None, None),
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> LogitsComparison:
    """Run both in float32 on the CPU, and compare what they predict.

    one, other, given, weights: as of `compare`. known_as: the registry model that both hold. progress: is
    told what happens. settings: instead of the environment's.
    Raises UnsupportedError if only one is a reward model or torch is not there, and what `load` raises.
    """
    from internlm_zoo.loading.directory import LoadRequest
    from internlm_zoo.loading.logits import compare_logits as run

    how: dict[str, Any] = {"devices": ("cpu",), "dtype": "float32", "known_as": known_as, "given": given}
    pairs = zip((one, other), weights, strict=True)
    sides = [LoadRequest(os.fspath(side), weights=chosen, **how) for side, chosen in pairs]
    return run(sides, settings=Settings.or_environment(settings), progress=progress)
