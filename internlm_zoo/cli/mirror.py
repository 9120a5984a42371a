"""`mirror plan|apply|diff`: a directory kept in step with the hubs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.download_options import Adopt, Exclude, Files, Include, MaxRate, MaxWorkers, Source
from internlm_zoo.cli.shell import Shell, group, verb

if TYPE_CHECKING:
    from internlm_zoo.mirror import Report

group("mirror", "Keep a directory in step with the hubs.")

_File = Annotated[
    Path, typer.Argument(metavar="MIRROR.yaml", help="The mirror file; docs/mirror.md says what is in it.")
]
_Summary = Annotated[
    Path | None, typer.Option("--summary", metavar="FILE.md", help="Write the report there too, as Markdown.")
]
_Deep = Annotated[
    bool, typer.Option("--deep", help="Hash every file of the mirror, not only those that were touched.")
]
_MaxDelete = Annotated[
    str | None,
    typer.Option(
        "--max-delete",
        metavar="N|P%",
        help="Stop rather than remove more files, or a greater part; 0: none. Default: the file's, else 25%.",
    ),
]


@verb("plan", group="mirror", example="internlm-zoo mirror plan mirror.yaml", asks_hubs=True)
def mirror_plan(
    shell: Shell,
    file: _File,
    files: Files = None,
    include: Include = None,
    exclude: Exclude = None,
    source: Source = "auto",
    adopt: Adopt = None,
    max_delete: _MaxDelete = None,
    deep: _Deep = False,
    summary: _Summary = None,
) -> CommandResult:
    """Show what `apply` would copy, update, delete and keep, and from where; change nothing.

    Exit code 0: nothing to do; 1: changes to come; 3: some releases could not be asked for.
    """
    from internlm_zoo.mirror import RunOptions, plan

    orders = RunOptions(deep, files or (), include or (), exclude or (), source, adopt or (), max_delete)
    with shell.progress() as progress:
        report = plan(file, settings=shell.settings, orders=orders, progress=progress)
    return _answer(report, summary)


@verb(
    "apply",
    group="mirror",
    example="internlm-zoo mirror apply mirror.yaml --summary mirror.md",
    asks_hubs=True,
)
def mirror_apply(
    shell: Shell,
    file: _File,
    files: Files = None,
    include: Include = None,
    exclude: Exclude = None,
    source: Source = "auto",
    adopt: Adopt = None,
    max_delete: _MaxDelete = None,
    max_workers: MaxWorkers = 8,
    max_rate: MaxRate = None,
    deep: _Deep = False,
    summary: _Summary = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit 1 if anything was changed, like git diff does.")
    ] = False,
) -> CommandResult:
    """Make the mirror hold what the file asks for, every file checked; go on where a killed run stopped.

    Exit code 0: done, whether or not there was anything to do; 3: some releases are not what they should be;
    9: stopped before anything was done, because more would be removed than `--max-delete` allows.
    """
    from internlm_zoo.mirror import RunOptions, apply

    orders = RunOptions(
        deep,
        files or (),
        include or (),
        exclude or (),
        source,
        adopt or (),
        max_delete,
        max_workers=max_workers,
        max_rate=max_rate,
    )
    with shell.progress() as progress:
        report = apply(file, settings=shell.settings, orders=orders, progress=progress)
    return _answer(report, summary, changed=int(exit_code))


@verb("diff", group="mirror", example="internlm-zoo mirror diff mirror.yaml --deep", asks_hubs=True)
def mirror_diff(
    shell: Shell,
    file: _File,
    files: Files = None,
    include: Include = None,
    exclude: Exclude = None,
    source: Source = "auto",
    adopt: Adopt = None,
    deep: _Deep = False,
    summary: _Summary = None,
) -> CommandResult:
    """Compare the mirror with the file and the hubs: what moved, is damaged, missing or to be removed.

    Exit code 0: no difference; 1: drift; 3: some releases could not be asked for.
    """
    from internlm_zoo.mirror import RunOptions, diff

    orders = RunOptions(deep, files or (), include or (), exclude or (), source, adopt or ())
    with shell.progress() as progress:
        report = diff(file, settings=shell.settings, orders=orders, progress=progress)
    return _answer(report, summary)


def _answer(report: Report, summary: Path | None, changed: int = 0) -> CommandResult:
    """changed: the exit code for an apply that changed something."""
    from dataclasses import replace

    from internlm_zoo.cli.mirror_views import report_view
    from internlm_zoo.mirror.summary import write_summary

    if report.result == "changed":
        report = replace(report, exit_code=changed)
    if summary is not None:
        write_summary(report, summary)
    return CommandResult(report, report_view(report), report.exit_code)
