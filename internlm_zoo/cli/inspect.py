"""`inspect`: what a checkpoint is, how that is known, and what is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.checkpoint_options import CheckpointOptions
from internlm_zoo.cli.flags import as_flags
from internlm_zoo.cli.shell import Shell, verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from converters import Inspection


@verb("inspect", example="internlm-zoo inspect internlm-20b/ --deep", asks_hubs=True)
def inspect(
    shell: Shell,
    target: Annotated[
        str,
        typer.Argument(
            metavar="DIR|URL",
            help="A directory in any format, a model, hub:owner/repository[@revision], or a URL.",
        ),
    ],
    options: CheckpointOptions,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read all weights: statistics of each tensor, MD5 side-cars.")
    ] = False,
    fix_index: Annotated[
        bool,
        typer.Option(
            "--fix-index", help="First write a right index where whole weights have a wrong one, or none."
        ),
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Threads of --deep; default: one per processor.")
    ] = None,
) -> CommandResult:
    """Say what a checkpoint is, from its headers, and name everything that is wrong with it.

    What is on the network is read where it is, and not stored. Exits with 1 if something is wrong.
    """
    import internlm_zoo as zoo

    with shell.progress() as progress:
        how: dict[str, Any] = {"workers": workers, "settings": shell.settings, "progress": progress}
        found = zoo.inspect(target, deep=deep, fix_index=fix_index, **options.keywords(), **how)
    found = _in_flags(found)
    for note in found.notes:
        shell.note(note)
    return CommandResult(
        {"sound": found.sound, **vars(found)}, _view(found), exit_code=0 if found.sound else 1
    )


def _in_flags(found: Inspection) -> Inspection:
    findings = [
        replace(one, **{name: text and as_flags(text) for name, text in vars(one).items()})
        for one in found.findings
    ]
    return replace(found, findings=tuple(findings), notes=tuple(map(as_flags, found.notes)))


def _view(found: Inspection) -> RenderableType:
    from rich.console import Group

    parts: list[RenderableType] = [_facts(found)]
    if found.statistics:
        parts += ["", _statistics(found)]
    if found.findings:
        parts += ["", _findings(found)]
    else:
        parts += ["", "nothing is wrong" if found.statistics else "nothing is wrong by the headers"]
    return Group(*parts)


def _facts(found: Inspection) -> RenderableType:
    from internlm_zoo.cli.tables import Column, TextTable, byte_count

    rows = [[name, _shown(fact.value), fact.origin] for name, fact in found.known.items()]
    rows += [["tokenizer", f"{file.size:,} tokens", file.name] for file in found.tokenizer]
    columns = [Column("What"), Column("Value", narrow="fold"), Column("Known from", narrow="fold")]
    files = "1 file" if found.files == 1 else f"{found.files} files"
    return TextTable(columns, rows, title=f"{found.name}: {byte_count(found.nbytes)} of weights in {files}")


def _shown(value: object) -> str:
    return f"{value:,}" if type(value) is int and value >= 10**6 else str(value)


def _findings(found: Inspection) -> RenderableType:
    from internlm_zoo.cli.tables import Column, TextTable

    rows = [[one.what, one.where or "", one.fix or ""] for one in found.findings]
    columns = [Column(title, narrow="fold") for title in ("Wrong", "Where", "What to do")]
    return TextTable(columns, rows)


def _statistics(found: Inspection) -> RenderableType:
    from internlm_zoo.cli.tables import Column, TextTable

    rows = [
        [
            one.name,
            f"{one.mean:.3g}",
            f"{one.std:.3g}",
            f"{one.low:.3g}",
            f"{one.high:.3g}",
            f"{one.zeros:,}",
            f"{one.nans + one.infinities:,}",
        ]
        for one in found.statistics
    ]
    columns = [Column("Tensor", narrow="fold")]
    columns += [Column(title, "right") for title in ("Mean", "Std", "Least", "Most", "Zeros", "Not finite")]
    return TextTable(columns, rows)
