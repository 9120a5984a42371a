"""`mirror plan|apply|diff`: a directory kept in step with the hubs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.download_options import FileOptions, SpeedOptions
from internlm_zoo.cli.flags import as_flags
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


@dataclass(frozen=True)
class DiffOptions(FileOptions):
    """Options of all three."""

    deep: Annotated[bool, "Hash every file of the mirror, not only those that were touched."] = False


@dataclass(frozen=True)
class PlanOptions(DiffOptions):
    """Options of what may remove files."""

    max_delete: Annotated[
        str | None,
        typer.Option(
            metavar="N|P%",
            help="Stop rather than remove more or a greater part. Default: the file's or 25%.",
        ),
    ] = None


@dataclass(frozen=True)
class ApplyOptions(PlanOptions, SpeedOptions):
    """Options of what fetches."""


@verb("plan", group="mirror", example="internlm-zoo mirror plan mirror.yaml", asks_hubs=True)
def mirror_plan(shell: Shell, file: _File, options: PlanOptions, summary: _Summary = None) -> CommandResult:
    """Show what `apply` would copy, update, delete and keep, and from where; change nothing.

    Exit code 0: nothing to do; 1: changes to come; 3: some releases could not be asked for.
    """
    from internlm_zoo import plan_mirror

    return _answer(shell.call(plan_mirror, file, **options.keywords()), summary)


@verb(
    "apply",
    group="mirror",
    example="internlm-zoo mirror apply mirror.yaml --summary mirror.md",
    asks_hubs=True,
)
def mirror_apply(
    shell: Shell,
    file: _File,
    options: ApplyOptions,
    summary: _Summary = None,
    exit_code: Annotated[bool, "Exit 1 if anything was changed, like git diff does."] = False,
) -> CommandResult:
    """Make the mirror hold what the file asks for, every file checked; go on where a killed run stopped.

    Exit code 0: done, whether or not there was anything to do; 3: some releases are not what they should be;
    9: stopped before anything was done, because more would be removed than `--max-delete` allows.
    """
    from internlm_zoo import apply_mirror

    report = shell.call(apply_mirror, file, **options.keywords())
    return _answer(report, summary, changed=int(exit_code))


@verb("diff", group="mirror", example="internlm-zoo mirror diff mirror.yaml --deep", asks_hubs=True)
def mirror_diff(shell: Shell, file: _File, options: DiffOptions, summary: _Summary = None) -> CommandResult:
    """Compare the mirror with the file and the hubs: what moved, is damaged, missing or to be removed.

    Exit code 0: no difference; 1: drift; 3: some releases could not be asked for.
    """
    from internlm_zoo import diff_mirror

    return _answer(shell.call(diff_mirror, file, **options.keywords()), summary)


def _answer(report: Report, summary: Path | None, changed: int = 0) -> CommandResult:
    """changed: the exit code for an apply that changed something."""
    from internlm_zoo.cli.mirror_views import report_view
    from internlm_zoo.mirror.summary import write_summary

    releases = [replace(one, problem=one.problem and as_flags(one.problem)) for one in report.releases]
    report = replace(report, releases=tuple(releases))
    if report.result == "changed":
        report = replace(report, exit_code=changed)
    if summary is not None:
        write_summary(report, summary, as_flags)
    return CommandResult(report, report_view(report), report.exit_code)
