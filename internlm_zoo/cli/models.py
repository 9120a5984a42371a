"""Commands on a model that runs: load, generate, smoke."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.checkpoint_options import DeviceOptions, ModelOptions
from internlm_zoo.cli.flags import as_flags
from internlm_zoo.cli.shell import Shell, verb
from internlm_zoo.errors import UsageError, ZooError
from internlm_zoo.fs.homes import require_here

if TYPE_CHECKING:
    from internlm_zoo.cli.tables import TextTable
    from internlm_zoo.loading.load import LoadPlan
    from internlm_zoo.loading.placement import DevicePart
    from internlm_zoo.smoke.result import SmokeResult

ModelArgument = Annotated[
    str, typer.Argument(help="Registry name, or a directory in hf, llama or original format.")
]


@verb("load", example="internlm-zoo load internlm-chat-7b --devices cuda:0,cuda:1 --plan")
def load(
    shell: Shell,
    model: ModelArgument,
    options: ModelOptions,
    parallel: Annotated[
        str, typer.Option(help="How to split: layers puts consecutive ones on each device.")
    ] = "layers",
    plan: Annotated[bool, typer.Option("--plan", help="Print the placement and load nothing.")] = False,
) -> CommandResult:
    """Load a model onto devices and say what lies where."""
    from internlm_zoo.loading.directory import LoadRequest
    from internlm_zoo.loading.load import execute, plan_load

    require_here()
    request = LoadRequest(model, parallel=parallel, **options.keywords())
    with shell.progress() as progress:
        planned = plan_load(request, settings=shell.settings, progress=progress)
        seconds = None if plan else execute(planned).seconds
    return CommandResult(_facts(planned, seconds), _placement(planned, seconds))


@verb("generate", example="internlm-zoo generate internlm-chat-7b -p 'What is a proverb?'")
def generate(
    shell: Shell,
    model: ModelArgument,
    options: ModelOptions,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="Text to go on from.")],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 64,
    raw: Annotated[bool, typer.Option("--raw", help="Leave the chat template out.")] = False,
) -> CommandResult:
    """Write what the model says to a prompt, always the most likely token.

    A chat model gets the prompt as a user's turn in its chat template.
    """
    from internlm_zoo.loading.directory import LoadRequest
    from internlm_zoo.loading.generate import generate as write
    from internlm_zoo.loading.generate import require_writing
    from internlm_zoo.loading.load import execute, plan_load

    require_here()
    with shell.progress() as progress:
        request = LoadRequest(model, **options.keywords())
        plan = plan_load(request, settings=shell.settings, progress=progress)
        require_writing(plan.directory)
        loaded = execute(plan)
    text = write(loaded, prompt, max_new_tokens=max_new_tokens, raw=raw)
    return CommandResult({"model": loaded.plan.directory.title, "prompt": prompt, "text": text}, text)


@verb("smoke", example="internlm-zoo smoke --all --miniature")
def smoke(
    shell: Shell,
    options: DeviceOptions,
    model: Annotated[str | None, typer.Argument(help="Registry name or directory.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every model of the registry.")] = False,
    miniature: Annotated[
        bool, typer.Option("--miniature", help="A small random model of the same layout; no download.")
    ] = False,
) -> CommandResult:
    """Check that a model does what it should: golden tokens where they are known, limits elsewhere.

    Exits with 1 if a model fails; its line says why.
    """
    if every == (model is not None):
        raise UsageError("name one model or directory, or say --all", "smoke")
    if (options.known_as or options.weights) and (every or miniature):
        raise UsageError("--as and --weights say what one directory holds", "smoke")
    require_here()
    how = {**options.keywords(), "settings": shell.settings}
    results = []
    with shell.progress() as progress:
        for name in [model] if model else _every_model(shell):
            progress.start(name, None)
            results.append(_judge(name, how, miniature, alone=not every))
            progress.finish(name)
    failed = sum(not result.ok for result in results)
    shell.note(f"{len(results) - failed} of {len(results)} pass")
    data = {"passed": len(results) - failed, "failed": failed, "results": results}
    return CommandResult(data, _verdicts(results), exit_code=int(failed > 0))


def _every_model(shell: Shell) -> list[str]:
    from internlm_zoo.registry import load_registry

    return list(load_registry(shell.settings).models)


def _judge(name: str, how: dict[str, Any], miniature: bool, *, alone: bool) -> SmokeResult:
    """One of many that cannot be tried is a line among the others."""
    from internlm_zoo import smoke_test
    from internlm_zoo.smoke.miniature import smoke_miniature
    from internlm_zoo.smoke.result import Check, conclude

    try:
        if miniature:
            return smoke_miniature(name, settings=how["settings"], devices=how.get("devices"))
        return smoke_test(name, **how)
    except ZooError as error:
        if alone:
            raise
        return conclude(name, [Check("loading", False, as_flags(f"not tried: {error}"))])


def _facts(plan: LoadPlan, seconds: float | None) -> dict[str, Any]:
    return {
        "model": plan.directory.title,
        "path": plan.directory.path,
        "format": plan.directory.checkpoint.format,
        "dtype": plan.dtype,
        "parameters": plan.parameters,
        "bytes": plan.placement.nbytes,
        "parts": [_part_facts(part) for part in plan.placement.parts],
        "seconds": seconds,
    }


def _part_facts(part: DevicePart) -> dict[str, Any]:
    return {
        "device": part.device.name,
        "free_bytes": part.device.memory,
        "first_layer": part.first,
        "last_layer": part.stop - 1,
        "embedding": part.embedding,
        "head": part.head,
        "bytes": part.nbytes,
    }


def _placement(plan: LoadPlan, seconds: float | None) -> TextTable:
    from internlm_zoo.cli.tables import UNKNOWN, Column, TextTable
    from internlm_zoo.loading.placement import in_units

    done = "planned, nothing loaded" if seconds is None else f"loaded in {seconds:.1f} s"
    size = in_units(plan.placement.nbytes)
    rows = [
        (
            part.device.name,
            _holds(part),
            in_units(part.nbytes),
            UNKNOWN if part.device.memory is None else in_units(part.device.memory),
        )
        for part in plan.placement.parts
    ]
    return TextTable(
        columns=(
            Column("device"),
            Column("holds", narrow="fold"),
            Column("size", "right"),
            Column("free before", "right", narrow="drop"),
        ),
        rows=rows,
        title=f"{plan.directory.title}: {plan.parameters:,} parameters in {plan.dtype}, {size}, {done}",
    )


def _holds(part: DevicePart) -> str:
    one = part.first == part.stop - 1
    layers = f"layer {part.first}" if one else f"layers {part.first} to {part.stop - 1}"
    ends = ["embedding"] * part.embedding, ["norm", "head"] * part.head
    return ", ".join([*ends[0], layers, *ends[1]])


def _verdicts(results: list[SmokeResult]) -> TextTable:
    from rich.text import Text

    from internlm_zoo.cli.tables import Column, TextTable

    marks = {True: Text("pass", style="green"), False: Text("FAIL", style="bold red")}
    return TextTable(
        columns=(Column(""), Column("model"), Column("found", narrow="fold")),
        rows=[(marks[result.ok], result.model, result.sentence) for result in results],
    )
