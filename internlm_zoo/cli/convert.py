"""`convert`: one format into another."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.checkpoint_options import KnownAs, WeightsOptions, Workers
from internlm_zoo.cli.flags import as_flags
from internlm_zoo.cli.option_groups import Options
from internlm_zoo.cli.shell import Shell, verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from converters import Plan, Report


class TargetFormat(str, Enum):
    hf = "hf"
    llama = "llama"
    original = "original"
    gguf = "gguf"


class Dtype(str, Enum):
    keep = "keep"
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    q8_0 = "q8_0"


class MlpOrder(str, Enum):
    up_down = "up_down"
    down_up = "down_up"


class Writers(str, Enum):
    threads = "threads"
    ray = "ray"


@dataclass(frozen=True, kw_only=True)
class TargetOptions(WeightsOptions):
    """What to make: the fields of `converters.ConversionOptions`."""

    to: Annotated[TargetFormat, typer.Option("--to", help="The format to make.")]
    tp: Annotated[int, typer.Option("--tp", min=1, help="Tensor-parallel ranks of an original target.")] = 1
    pp: Annotated[int, typer.Option("--pp", min=1, help="Pipeline stages of an original target.")] = 1
    max_shard_size: Annotated[
        str, typer.Option("--max-shard-size", help="Of safetensors files, like 5GB or 200MB.")
    ] = "5GB"
    dtype: Annotated[
        Dtype, typer.Option("--dtype", help="Element type to round to; keep copies the values as they are.")
    ] = Dtype.keep
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="A tokenizer.model, or a directory with a tokenizer, to add."),
    ] = None
    no_tokenizer: Annotated[
        bool, typer.Option("--no-tokenizer", help="Carry no tokenizer, whatever the source holds.")
    ] = False
    code: Annotated[
        Path | None,
        typer.Option(
            "--code", help="A directory with released configuration_*.py and modeling_*.py, to go with hf."
        ),
    ] = None
    mlp_order: Annotated[
        MlpOrder | None,
        typer.Option(
            "--mlp-order", help="What w2 and w3 are: in the target, and in a source whose shapes do not tell."
        ),
    ] = None
    accept_lossy: Annotated[
        bool,
        typer.Option(
            "--accept-lossy", help="Write a norm_head head from rows whose lengths are lost; refused without."
        ),
    ] = False
    pad_vocab_to_multiple: Annotated[
        int,
        typer.Option(
            "--pad-vocab-to-multiple", min=1, help="Add rows of zeros until N divides the vocabulary's size."
        ),
    ] = 1

    def keywords(self) -> dict[str, Any]:
        """The order is one of the facts."""
        said = super().keywords()
        order = said.pop("mlp_order", None)
        return {**said, "given": {**said["given"], **({"mlp_order": order} if order else {})}}


@dataclass(frozen=True)
class OriginOptions(Options):
    """What to read."""

    known_as: KnownAs = None
    from_hub: Annotated[
        bool, typer.Option("--from-hub", help="Read the weights where they are, and store only the result.")
    ] = False


@dataclass(frozen=True)
class ExecutionOptions(Options):
    """How: the fields of `converters.Execution`."""

    workers: Workers = None
    engine: Annotated[
        Writers,
        typer.Option(
            "--engine", help="Who writes: threads here, or the nodes of a Ray cluster that share files."
        ),
    ] = Writers.threads
    evidence: Annotated[
        bool,
        typer.Option("--evidence/--no-evidence", help="Read the result back and hold it against the source."),
    ] = True
    force: Annotated[bool, typer.Option("--force", help="Replace a target that is not empty.")] = False


@verb("convert", example="internlm-zoo convert internlm-20b/ internlm-20b-hf/ --to hf", asks_hubs=True)
def convert(
    shell: Shell,
    src: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="A directory or a model; with --from-hub also hub:owner/repository[@revision].",
        ),
    ],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The directory to make.")],
    target: TargetOptions,
    source: OriginOptions,
    execution: ExecutionOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")] = False,
) -> CommandResult:
    """Convert between original, hf, llama and gguf checkpoints. The last line is the new directory."""
    import internlm_zoo as zoo
    from converters.planning.describe import notes_of
    from internlm_zoo.checkpoints.engines import opened_by

    with shell.progress() as progress:
        what, how = target.keywords(), source.keywords()
        how |= {"settings": shell.settings, "progress": progress}
        if dry_run:
            plan = zoo.plan_conversion(src, zoo.ConversionOptions(**what), **how)
            for note in notes_of(plan):
                shell.note(note)
            return CommandResult(_plan_data(plan), _plan_view(plan))
        report = zoo.convert(src, dst, **what, **execution.keywords(), **how)
    for note in report.notes:
        shell.note(note)
    shell.note(_summary(report))
    family = report.plan.source.family
    if family and (opened := opened_by(family, target.to.value)):
        shell.note(opened)
    return CommandResult(_report_data(report), report.path)


def _summary(report: Report) -> str:
    from internlm_zoo.cli.tables import byte_count

    plan = report.plan
    if report.unchanged:
        return "it is there already, from the same source with the same options: nothing was written"
    kept = f", {len(report.kept)} of them finished before" if report.kept else ""
    proved = f"; all {len(report.fingerprints)} tensors as in the source" if report.fingerprints else ""
    return (
        f"{_grid(plan.source.layout.name, plan.source.tp, plan.source.pp)} to "
        f"{_grid(plan.layout.name, plan.grid.tp, plan.grid.pp)}: {byte_count(report.nbytes)} in "
        f"{len(report.files)} file{'s' * (len(report.files) != 1)}{kept}{proved}"
    )


def _grid(layout: str, tp: int, pp: int) -> str:
    return f"{layout} (tp {tp}, pp {pp})" if layout.endswith("/original") else layout


def _report_data(report: Report) -> dict[str, Any]:
    return {
        "path": report.path,
        "files": report.files,
        "bytes": report.nbytes,
        "kept": report.kept,
        "unchanged": report.unchanged,
        "notes": [as_flags(note) for note in report.notes],
        "fingerprints": dict(report.fingerprints),
    }


def _plan_data(plan: Plan) -> dict[str, Any]:
    from converters.planning.describe import describe, notes_of

    return {
        "source": {
            "path": plan.source.path,
            "layout": plan.source.layout.name,
            "tp": plan.source.tp,
            "pp": plan.source.pp,
        },
        "target": {"layout": plan.layout.name, "tp": plan.grid.tp, "pp": plan.grid.pp},
        "bytes": plan.nbytes,
        "files": [{"name": file.name, "size": file.layout.size} for file in plan.files],
        "facts": {name: {"value": fact.value, "origin": fact.origin} for name, fact in plan.facts.items()},
        "dropped": plan.source.dropped,
        "notes": [as_flags(note) for note in notes_of(plan)],
        "tensors": describe(plan),
    }


def _plan_view(plan: Plan) -> RenderableType:
    from rich.console import Group

    from converters.planning.describe import describe
    from internlm_zoo.cli.tables import Column, TextTable, byte_count

    source = _grid(plan.source.layout.name, plan.source.tp, plan.source.pp)
    tensors = TextTable(
        [
            Column("Tensor", narrow="fold"),
            Column("Count", "right"),
            Column("Shape"),
            Column("From", narrow="fold"),
            Column("Files", "right", narrow="drop"),
            Column("Size", "right"),
        ],
        [
            [
                line.target,
                str(line.count),
                " x ".join(map(str, line.shape)),
                ", ".join(line.sources),
                str(line.files),
                byte_count(line.nbytes),
            ]
            for line in describe(plan)
        ],
        title=f"{source} to {_grid(plan.layout.name, plan.grid.tp, plan.grid.pp)}",
    )
    facts = TextTable(
        [Column("Fact"), Column("Value", narrow="fold"), Column("Known from")],
        [[name, str(fact.value), fact.origin] for name, fact in sorted(plan.facts.items())],
    )
    total = f"{byte_count(plan.nbytes)} in {len(plan.files)} files; nothing was written"
    return Group(tensors, "", facts, "", total)
