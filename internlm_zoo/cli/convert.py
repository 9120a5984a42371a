"""`convert`: one format into another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.checkpoint_options import KnownAs, WeightsOptions, Workers
from internlm_zoo.cli.flags import as_flags
from internlm_zoo.cli.option_groups import Options
from internlm_zoo.cli.shell import Shell, verb
from internlm_zoo.cli.tables import Column, TextTable, byte_count, figure, wide

if TYPE_CHECKING:
    from rich.console import RenderableType

    from converters import Plan, Report


@dataclass(frozen=True, kw_only=True)
class TargetOptions(WeightsOptions):
    """What to make: the fields of `converters.ConversionOptions`."""

    to: Annotated[Literal["hf", "llama", "original", "gguf"], "The format to make."]
    tp: Annotated[int, "Tensor-parallel ranks of an original target."] = 1
    pp: Annotated[int, "Pipeline stages of an original target."] = 1
    max_shard_size: Annotated[str, "Of safetensors files, like 5GB or 200MB."] = "5GB"
    dtype: Annotated[
        Literal["keep", "float32", "float16", "bfloat16", "q8_0"],
        "Element type to round to; keep copies the values as they are.",
    ] = "keep"
    tokenizer: Annotated[Path | None, "A tokenizer.model, or a directory with a tokenizer, to add."] = None
    no_tokenizer: Annotated[bool, "Carry no tokenizer, whatever the source holds."] = False
    code: Annotated[
        Path | None, "A directory with released configuration_*.py and modeling_*.py, to go with hf."
    ] = None
    mlp_order: Annotated[
        Literal["up_down", "down_up"] | None,
        "What w2 and w3 are: in the target, and in a source whose shapes do not tell.",
    ] = None
    accept_lossy: Annotated[
        bool, "Write a norm_head head from rows whose lengths are lost; refused without."
    ] = False
    pad_vocab_to_multiple: Annotated[int, "Add rows of zeros until N divides the vocabulary's size."] = 1

    def keywords(self) -> dict[str, Any]:
        """The order is one of the facts."""
        given = super().keywords()
        order = given.pop("mlp_order", None)
        return {**given, "given": {**given["given"], **({"mlp_order": order} if order else {})}}


@dataclass(frozen=True)
class OriginOptions(Options):
    """What to read."""

    known_as: KnownAs = None
    from_hub: Annotated[bool, "Read the weights where they are, and store only the result."] = False


@dataclass(frozen=True)
class ExecutionOptions(Options):
    """How: the fields of `converters.Execution`."""

    workers: Workers = None
    engine: Annotated[
        Literal["threads", "ray"], "Who writes: threads here, or the nodes of a Ray cluster that share files."
    ] = "threads"
    evidence: Annotated[
        bool,
        typer.Option("--evidence/--no-evidence", help="Read the result back and hold it against the source."),
    ] = True
    force: Annotated[bool, "Replace a target that is not empty."] = False


@verb("convert", example="internlm-zoo convert internlm-20b/ internlm-20b-hf/ --to hf", asks_hubs=True)
def convert(
    shell: Shell,
    src: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="A directory or a model; with --from-hub also hub:owner/repository(@revision).",
        ),
    ],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The directory to make.")],
    target: TargetOptions,
    source: OriginOptions,
    execution: ExecutionOptions,
    dry_run: Annotated[bool, "Print the plan and write nothing."] = False,
) -> CommandResult:
    """Convert between original, hf, llama and gguf checkpoints. The last line is the new directory."""
    import internlm_zoo as zoo
    from converters.planning.describe import notes_of
    from internlm_zoo.checkpoints.engines import opened_by

    what, how = target.keywords(), source.keywords()
    if dry_run:
        plan = shell.call(zoo.plan_conversion, src, zoo.ConversionOptions(**what), **how)
        shell.note(*notes_of(plan))
        return CommandResult(_plan_data(plan), _plan_view(plan))
    report = shell.call(zoo.convert, src, dst, **what, **execution.keywords(), **how)
    shell.note(*report.notes, _summary(report))
    family = report.plan.source.family
    if family and (opened := opened_by(family, target.to)):
        shell.note(opened)
    return CommandResult(_report_data(report), report.path)


def _summary(report: Report) -> str:
    if report.unchanged:
        return "it is there already, from the same source with the same options: nothing was written"
    kept = f", {len(report.kept)} of them finished before" if report.kept else ""
    proved = f"; all {len(report.fingerprints)} tensors as in the source" if report.fingerprints else ""
    files = f"{len(report.files)} file{'s' * (len(report.files) != 1)}"
    return f"{_way(report.plan)}: {byte_count(report.nbytes)} in {files}{kept}{proved}"


def _way(plan: Plan) -> str:
    source = _grid(plan.source.layout.name, plan.source.tp, plan.source.pp)
    return f"{source} to {_grid(plan.layout.name, plan.grid.tp, plan.grid.pp)}"


def _grid(layout: str, tp: int, pp: int) -> str:
    return f"{layout} (tp {tp}, pp {pp})" if layout.endswith("/original") else layout


def _report_data(report: Report) -> dict[str, Any]:
    written = {"path": report.path, "files": report.files, "bytes": report.nbytes, "kept": report.kept}
    notes = [as_flags(note) for note in report.notes]
    proof = {"fingerprints": dict(report.fingerprints)}
    return {**written, "unchanged": report.unchanged, "notes": notes, **proof}


def _plan_data(plan: Plan) -> dict[str, Any]:
    from converters.planning.describe import describe, notes_of

    source = plan.source
    return {
        "source": {"path": source.path, "layout": source.layout.name, "tp": source.tp, "pp": source.pp},
        "target": {"layout": plan.layout.name, "tp": plan.grid.tp, "pp": plan.grid.pp},
        "bytes": plan.nbytes,
        "files": [{"name": file.name, "size": file.layout.size} for file in plan.files],
        "facts": {name: {"value": fact.value, "origin": fact.origin} for name, fact in plan.facts.items()},
        "dropped": source.dropped,
        "notes": [as_flags(note) for note in notes_of(plan)],
        "tensors": describe(plan),
    }


def _plan_view(plan: Plan) -> RenderableType:
    from rich.console import Group

    from converters.planning.describe import describe

    files = Column("Files", "right", narrow="drop")
    titles = (wide("Tensor"), figure("Count"), "Shape", wide("From"), files, figure("Size"))
    rows = [
        [
            *(line.target, str(line.count), " x ".join(map(str, line.shape)), ", ".join(line.sources)),
            *(str(line.files), byte_count(line.nbytes)),
        ]
        for line in describe(plan)
    ]
    tensors = TextTable(titles, rows, title=_way(plan))
    known = [[name, str(fact.value), fact.origin] for name, fact in sorted(plan.facts.items())]
    facts = TextTable(("Fact", wide("Value"), "Known from"), known)
    total = f"{byte_count(plan.nbytes)} in {len(plan.files)} files; nothing was written"
    return Group(tensors, "", facts, "", total)
