"""`smoke`: whether models do what they should, and whether every miniature goes the whole way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.checkpoint_options import DeviceOptions
from internlm_zoo.cli.flags import as_flags
from internlm_zoo.cli.live import Notes
from internlm_zoo.cli.models_progress import counting_models
from internlm_zoo.cli.shell import Shell, verb
from internlm_zoo.cli.tables import Column, TextTable, figure, wide
from internlm_zoo.errors import UsageError, ZooError
from internlm_zoo.fs.homes import require_here
from internlm_zoo.progress import Progress

if TYPE_CHECKING:
    from rich.text import Text

    from internlm_zoo.smoke.result import SmokeResult


_SMOKE = "internlm-zoo smoke internlm2-chat-7b, or internlm-zoo smoke --all --miniature"


@verb("smoke", example="internlm-zoo smoke --all --miniature")
def smoke(
    shell: Shell,
    options: DeviceOptions,
    model: Annotated[str | None, typer.Argument(help="Registry name or directory.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every model of the registry.")] = False,
    miniature: Annotated[
        bool, "A small random model of the same layout takes the whole way; nothing is fetched from a hub."
    ] = False,
    jobs: Annotated[
        int | None, "Miniatures at a time, each two processes; default: one per processor, at most 8."
    ] = None,
    strict: Annotated[bool, "A model that cannot be judged has failed."] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record", metavar="FILE", help="A new overlay for what passages cost it, if it passes."
        ),
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option("--junit", metavar="FILE", help="Write every check into it too, as JUnit XML."),
    ] = None,
) -> CommandResult:
    """Check that a model does what it should: golden tokens where they are known, limits elsewhere.

    --miniature: from an original in three grids through a hub on this machine, hf, llama, devices and ranks
    to text, and back.

    Exits with 1 if a model fails; its line says why, and which mistake was made where one explains it. One
    that cannot be judged fails with --strict alone.
    """
    from internlm_zoo.cli.junit import check_writable, write_junit

    _check(options, model, every, miniature, jobs, record)
    require_here()
    if junit:
        check_writable(junit)
    how = {**options.keywords(), "strict": strict, "record": record, "miniature": miniature}
    with counting_models(shell) as progress:
        if every and miniature:
            results = _miniatures(shell, how, jobs, progress)
        else:
            results = _models(shell, model, how, progress)
    if junit:
        write_junit(results, junit, strict=strict)
    failed = sum(not result.ok for result in results)
    unjudged = sum(result.ok and not result.judged for result in results)
    passed = len(results) - failed - unjudged
    shell.note(f"{passed} of {len(results)} pass" + (f", {unjudged} cannot be judged" if unjudged else ""))
    data = {"passed": passed, "failed": failed, "unjudged": unjudged, "results": results}
    view = _steps(results) if miniature else _verdicts(results)
    return CommandResult(data, view, exit_code=int(failed > 0))


def _check(
    options: DeviceOptions,
    model: str | None,
    every: bool,
    miniature: bool,
    jobs: int | None,
    record: Path | None,
) -> None:
    """Raises UsageError for what does not go together."""
    if every == (model is not None):
        raise UsageError("name one model or directory, or all of them", "smoke", _SMOKE)
    if (options.known_as or options.weights) and (every or miniature):
        what = "--as and --weights say what one directory holds"
        raise UsageError(what, "smoke", "leave them out, or name it")
    if record and every:
        raise UsageError("it records one model", "--record", "name a model instead of --all")
    if jobs is not None and not (every and miniature):
        raise UsageError("only miniatures are tried several at a time", "--jobs", "say --all --miniature")


def _models(shell: Shell, model: str | None, how: dict[str, Any], progress: Progress) -> list[SmokeResult]:
    """One, or each of the registry in turn."""
    how |= {"settings": shell.settings, "progress": Notes(shell)}
    names = _every_model(shell) if model is None else [model]
    progress.plan(len(names), None)
    results = []
    for name in names:
        progress.start(name, None)
        results.append(_judge(name, how, alone=model is not None))
        progress.finish(name)
    return results


def _miniatures(shell: Shell, how: dict[str, Any], jobs: int | None, progress: Progress) -> list[SmokeResult]:
    from internlm_zoo import smoke_miniatures

    if how["parallel"] != "layers":
        raise UsageError("miniatures start ranks of their own", "--parallel")
    devices = how.get("devices")
    return smoke_miniatures(jobs=jobs, devices=devices, progress=progress, settings=shell.settings)


def _every_model(shell: Shell) -> list[str]:
    from internlm_zoo import list_models

    return [model.name for model in list_models(settings=shell.settings)]


def _judge(name: str, how: dict[str, Any], *, alone: bool) -> SmokeResult:
    """One of many that cannot be tried is a line among the others."""
    from internlm_zoo import smoke_test
    from internlm_zoo.smoke.result import Check, conclude

    try:
        return smoke_test(name, **how)
    except ZooError as error:
        if alone:
            raise
        return conclude(name, [Check("loading", False, as_flags(f"not tried: {error}"))])


def _verdicts(results: Sequence[SmokeResult]) -> TextTable:
    rows = [(_mark(result.ok, result.judged), result.model, result.sentence) for result in results]
    return TextTable(("", "model", wide("found")), rows)


def _steps(results: Sequence[SmokeResult]) -> TextTable:
    """Of one model a row for each step, of several a column; what failed is said at the end."""
    if len(results) == 1:
        checks = results[0].checks
        rows = [(_mark(one.ok), one.name, one.sentence, f"{one.seconds:.2f}") for one in checks]
        return TextTable(("", "step", wide("found"), figure("s")), rows, title=results[0].model)
    names = list(dict.fromkeys(check.name for result in results for check in result.checks))
    columns = [Column(name.replace(" ", "\n"), "center", narrow="drop") for name in names]
    found = [wide("found")] if any(not result.ok for result in results) else []
    lines = [
        (_mark(result.ok), result.model, *_marks(result, names), *_said(result)[: len(found)])
        for result in results
    ]
    return TextTable(("", "model", *columns, *found), lines)


def _marks(result: SmokeResult, names: Sequence[str]) -> Iterator[Text | str]:
    from rich.text import Text

    signs = {True: Text("✓", style="green"), False: Text("✗", style="bold red")}
    done = {check.name: signs[check.ok] for check in result.checks}
    return (done.get(name, "") for name in names)


def _said(result: SmokeResult) -> list[str]:
    return ["" if result.ok else result.sentence]


def _mark(ok: bool, judged: bool = True) -> Text:
    from rich.text import Text

    if ok and not judged:
        return Text("?", style="yellow")
    return Text("pass", style="green") if ok else Text("FAIL", style="bold red")
