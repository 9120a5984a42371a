"""`fit`: what a model needs, and on what it fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.text import Text

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.checkpoint_options import CheckpointOptions
from internlm_zoo.cli.shell import Shell, verb
from internlm_zoo.cli.tables import UNKNOWN, Column, TextTable, byte_count, number

if TYPE_CHECKING:
    from internlm_zoo.fitting.fit import CardVerdict, Fit
    from internlm_zoo.fitting.offload import Offload
    from internlm_zoo.fitting.ranks import RankGrid, RankMemory

_BAR = 60
# Field of RankMemory -> what a person reads, its colour, and its sign where there are none.
_PARTS = {
    "weights": ("weights", "blue", "█"),
    "cache": ("keys and values", "yellow", "▓"),
    "working": ("activations, then logits", "green", "▒"),
}


@dataclass(frozen=True)
class FitOptions(CheckpointOptions):
    """What is asked of it, and of what."""

    context: Annotated[
        int | None,
        typer.Option("--context", help="Tokens of each text; default: as many as it was trained on."),
    ] = None
    batch: Annotated[int | None, typer.Option("--batch", help="Texts at once; default: 1.")] = None
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="float32, float16, bfloat16, float64; default: that of most bytes."),
    ] = None
    cache_dtype: Annotated[
        str | None,
        typer.Option(
            "--cache-dtype", help="Of keys and values, also float8_e4m3fn, int8; default: the same."
        ),
    ] = None
    tp: Annotated[int | None, typer.Option("--tp", help="Ranks that share each stage; default: 1.")] = None
    pp: Annotated[int | None, typer.Option("--pp", help="Pipeline stages; default: 1.")] = None
    gpu_mem: Annotated[
        str | None,
        typer.Option(
            "--gpu-mem", metavar="SIZE", help="Of one GPU, as 24GB; default: a table of common cards."
        ),
    ] = None
    host_mem: Annotated[
        str | None,
        typer.Option(
            "--host-mem", metavar="SIZE", help="Of the machine, for layers that one GPU has no room for."
        ),
    ] = None


@verb("fit", example="internlm-zoo fit internlm2-20b --gpu-mem 24GB --context 8192", asks_hubs=True)
def fit(
    shell: Shell,
    model: Annotated[
        str, typer.Argument(help="Registry name, directory, hub:repo[@revision], or the URL of a release.")
    ],
    options: FitOptions,
    chart: Annotated[
        Path | None, typer.Option("--chart", help="Draw it into this png or svg file (`[chart]`).")
    ] = None,
) -> CommandResult:
    """Say what every rank would hold of a model, and on which GPUs that fits.

    Weights, keys and values, activations and logits of a prompt that is read in one piece. Nothing is
    downloaded: the registry's facts do, or headers. Exits with 1 if it does not fit in --gpu-mem.
    """
    from internlm_zoo import fit as run

    with shell.progress() as progress:
        found = run(model, settings=shell.settings, progress=progress, **options.keywords())
    if chart is not None:
        from internlm_zoo.fitting.chart import draw_fit

        draw_fit(found, chart)
        shell.note(f"wrote {chart}")
    refused = options.gpu_mem is not None and not found.ok
    return CommandResult(asdict(found) | {"ok": found.ok}, Group(*_parts(found)), exit_code=int(refused))


def _parts(found: Fit) -> Iterator[Any]:
    yield _stages(found)
    yield _Bars(found)
    yield _verdicts(found)


def _stages(found: Fit) -> TextTable:
    title = (
        f"{found.model}: {found.parameters:,} parameters in {found.dtype}, {found.batch} x {found.context:,} "
        f"tokens, tp {found.tp} x pp {found.pp}, by {found.source}"
    )
    heads = ("weights", "keys, values", "activations", "logits", "each rank")
    rows = [
        (
            str(one.stage),
            _holds(one),
            *(byte_count(size) for size in (one.weights, one.cache, one.activations, one.logits, one.total)),
        )
        for one in found.stages
    ]
    columns = (Column("stage"), Column("holds", narrow="fold"), *(Column(head, "right") for head in heads))
    return TextTable(columns, rows, title)


def _holds(one: RankMemory) -> str:
    layers = f"layers {one.first} to {one.stop - 1}" if one.stop - one.first > 1 else f"layer {one.first}"
    return ", ".join([*["embedding"] * one.embedding, layers, *["norm", "head"] * one.head])


@dataclass(frozen=True)
class _Bars:
    """A bar for each stage, and what its signs stand for."""

    found: Fit

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = self.found.verdicts[0].room if len(self.found.verdicts) == 1 else 0
        scale = max(self.found.need, room) / _BAR
        ascii_only = options.ascii_only
        yield Text()
        for one in self.found.stages:
            bar = Text(f"{one.stage:>5}  ")
            for field, (_, colour, sign) in _PARTS.items():
                count = round(getattr(one, field) / scale)
                bar.append((field[0] if ascii_only else sign) * count, colour)
            if room and one.total <= room:
                bar.append("." * round((room - one.total) / scale), "dim")
            yield bar
        offload = self.found.verdicts[0].offload if room else None
        for where in ("gpu", "host", "disk") if offload else ():
            sign = "w" if ascii_only else _PARTS["weights"][2]
            yield Text(f"{where:>5}  ") + Text(sign * round(getattr(offload, where) / scale), "blue")
        signs = (f"{field[0] if ascii_only else sign} {told}" for field, (told, _, sign) in _PARTS.items())
        yield Text(f"       {'  '.join(signs)}{'  . free' if room else ''}\n", "dim")


def _verdicts(found: Fit) -> TextTable:
    marks = {True: Text("fits", style="green"), False: Text("no", style="bold red")}
    offloads = any(verdict.offload for verdict in found.verdicts)
    rows: list[tuple[str | Text, ...]] = [
        (
            marks[verdict.fits],
            verdict.card,
            byte_count(verdict.memory),
            number(verdict.longest_context) + _beyond(verdict, found),
            _smallest(verdict.smallest),
            *[_offload(verdict.offload)] * offloads,
        )
        for verdict in found.verdicts
    ]
    trained = UNKNOWN if found.trained is None else number(found.trained)
    columns = [
        Column(""),
        Column("GPU"),
        Column("has", "right"),
        Column("longest context", "right"),
        Column("fewest GPUs, tp x pp", "right"),
        *[Column("layers on one GPU, host, disk", "right", narrow="drop")] * offloads,
    ]
    title = (
        f"longest context in tp {found.tp} x pp {found.pp} (* beyond the {trained} tokens of its "
        f"training), fewest GPUs for {found.context:,} tokens; 1.1 GB of each are left to CUDA"
    )
    return TextTable(columns, rows, title)


def _offload(found: Offload | None) -> str:
    if found is None:
        return ""
    read = f"; {byte_count(found.disk)} read a token" if found.disk_layers else ""
    return f"{found.gpu_layers}, {found.host_layers}, {found.disk_layers}{read}"


def _beyond(verdict: CardVerdict, found: Fit) -> str:
    return "*" if found.trained is not None and verdict.longest_context > found.trained else ""


def _smallest(grid: RankGrid | None) -> str:
    return "more than 64" if grid is None else f"{grid.tp * grid.pp}, {grid.tp} x {grid.pp}"
