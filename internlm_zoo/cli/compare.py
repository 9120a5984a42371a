"""`fingerprint` and `compare`: whether two checkpoints hold the same."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.checkpoint_options import GivenOptions, WeightsOptions, Workers
from internlm_zoo.cli.shell import Shell, verb
from internlm_zoo.errors import UsageError

if TYPE_CHECKING:
    from converters.sinks.comparison import Comparison
    from internlm_zoo.loading.logits import LogitsComparison


@verb("fingerprint", example="internlm-zoo fingerprint internlm-20b-hf/")
def fingerprint(
    shell: Shell,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="In original, hf or llama format.")],
    options: WeightsOptions,
    workers: Workers = None,
) -> CommandResult:
    """Print one digest per logical tensor: the same for the same weights, whatever the format or grid."""
    import internlm_zoo as zoo

    digests = zoo.fingerprint(directory, **options.keywords(), workers=workers)
    return CommandResult(digests, [f"{digest}  {name}" for name, digest in digests.items()])


@verb("compare", example="internlm-zoo compare internlm-20b/ internlm-20b-hf/")
def compare(
    shell: Shell,
    one: Annotated[Path, typer.Argument(metavar="A", help="A checkpoint directory of any format.")],
    other: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    options: GivenOptions,
    logits: Annotated[
        bool, typer.Option("--logits", help="Run both as well, and compare what they predict (needs torch).")
    ] = False,
    known_as: Annotated[
        str | None, typer.Option("--as", help="The registry model that both hold, for --logits.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            metavar="NAME",
            help="Which of several sets of weights, of both; given twice, of A and of B.",
        ),
    ] = None,
    workers: Workers = None,
) -> CommandResult:
    """Say whether two checkpoints are identical, the same in another layout, rounded, or different.

    Exits with 1 if they are rounded or different, or if their configs make other models of the same tensors.
    """
    import internlm_zoo as zoo

    what = {**options.keywords(), "weights": _of_each(weights or [])}
    found = zoo.compare(one, other, **what, workers=workers)
    code = 0 if found.same else 1
    if not logits:
        return CommandResult(found, [_verdict(found)], exit_code=code)
    with shell.progress() as progress:
        how: dict[str, Any] = {"settings": shell.settings, "progress": progress}
        run = zoo.compare_logits(one, other, **what, known_as=known_as, **how)
    data = {**asdict(found), "logits": asdict(run)}
    return CommandResult(data, [_verdict(found), _logits(run)], exit_code=code)


def _of_each(weights: list[str]) -> tuple[str | None, str | None]:
    if len(weights) > 2:
        raise UsageError("there are two sides, and more sets of weights named", "--weights")
    return (weights[0], weights[-1]) if weights else (None, None)


def _verdict(found: Comparison) -> str:
    told = ", ".join(f"{name} {one} against {other}" for name, one, other in found.config)
    if found.first is None:
        return f"{found.verdict}: {told}" if told else found.verdict
    where = found.first
    place = (
        f" at {list(where.index)}: {where.values[0]:g} against {where.values[1]:g}"
        if where.index and where.values
        else ""
    )
    error = f"; largest difference {found.max_error:g}" if where.values else ""
    config = f"; config: {told}" if told else ""
    return f"{found.verdict}: {where.tensor}, {where.what}{place}{error}{config}"


def _logits(run: LogitsComparison) -> str:
    prompt, position, token = run.where
    where = f" (prompt {prompt}, position {position}, token {token})" if run.max_difference else ""
    places = f"all {run.positions}" if run.choices_agree else f"{run.same_choice} of {run.positions}"
    apart = f"; the tokenizers cut {len(run.other_tokens)} texts differently" if run.other_tokens else ""
    return (
        f"logits: largest difference {run.max_difference:.3g}{where}; the likeliest token is the same at "
        f"{places} positions{apart}"
    )
