"""`demo`: the whole path, from a name to a sentence, on two small trained models and hubs on loopback."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from converters.system.filesystem import scratch
from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.shell import Shell, verb
from internlm_zoo.cli.tables import TextTable, figure, wide

if TYPE_CHECKING:
    from internlm_zoo.demo.report import StepResult


@verb("demo", example="internlm-zoo demo -v")
def demo(
    shell: Shell,
    report_dir: Annotated[
        Path | None,
        typer.Option("--report-dir", metavar="DIR", help="Write report.json and report.md there."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the commands one would type for each step.")
    ] = False,
) -> CommandResult:
    """Download, check, convert, load, try and mirror two small models from four hubs on this machine.

    Needs the [torch] extra, no network and no GPU. Exits with 1 if a step fails.
    """
    from internlm_zoo.demo.environment import MODELS, open_environment
    from internlm_zoo.demo.report import write
    from internlm_zoo.demo.steps import run_steps
    from internlm_zoo.loading.runtime import require_torch

    require_torch()
    results: list[StepResult] = []
    with scratch() as root, open_environment(root) as environment:
        for hub, url in environment.hubs.items():
            shell.note(f"{hub} on {url}")
        for model in MODELS:
            shell.note("", model)
            for result in run_steps(environment, model):
                results.append(result)
                _note(shell, result, verbose)
    ok = all(result.ok for result in results)
    for path in write(results, report_dir) if report_dir else ():
        shell.note(f"wrote {path}")
    data = {"ok": ok, "proofs": [asdict(result) for result in results]}
    return CommandResult(data, _table(results), exit_code=int(not ok))


def _table(results: list[StepResult]) -> TextTable:
    from rich.text import Text

    from internlm_zoo.demo.report import figures

    marks = {True: Text("✓", style="green"), False: Text("✗", style="bold red")}
    rows = [(marks[one.ok], one.model, one.step, one.proved, *figures(one)) for one in results]
    titles = ("", "Model", "Step", wide("Proved"), figure("MB"), figure("s"))
    return TextTable(titles, rows, title="What was proved")


def _note(shell: Shell, result: StepResult, verbose: bool) -> None:
    commands = [f"      $ {command}" for command in result.commands if verbose]
    shell.note(f"  {'✓' if result.ok else '✗'} {result.step}: {result.proved}", *commands)
