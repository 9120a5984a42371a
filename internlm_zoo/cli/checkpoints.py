"""`fingerprint`, `compare` and `inspect`: what checkpoints are, and whether two hold the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from converters.formats.access import is_directory
from converters.saved import METADATA, SMOKE
from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.checkpoint_options import CheckpointOptions, GivenOptions, WeightsOptions, Workers
from internlm_zoo.cli.flags import as_flags
from internlm_zoo.cli.shell import Shell, verb
from internlm_zoo.cli.stored import smoke_said, tested
from internlm_zoo.cli.tables import TextTable, byte_count, figure, wide
from internlm_zoo.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from converters import Comparison, Inspection
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
    from converters.sinks.digests import fingerprint_of_all

    digests = zoo.fingerprint(directory, **options.keywords(), workers=workers)
    shell.note(f"{fingerprint_of_all(digests)} is that of the whole model")
    return CommandResult(digests, [f"{digest}  {name}" for name, digest in digests.items()])


@verb("compare", example="internlm-zoo compare internlm-20b/ internlm-20b-hf/")
def compare(
    shell: Shell,
    one: Annotated[Path, typer.Argument(metavar="A", help="A checkpoint directory of any format.")],
    other: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    options: GivenOptions,
    logits: Annotated[bool, "Run both as well, and compare what they predict (needs torch)."] = False,
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
    run = shell.call(zoo.compare_logits, one, other, **what, known_as=known_as)
    data = {**asdict(found), "logits": asdict(run)}
    return CommandResult(data, [_verdict(found), _logits(run)], exit_code=code)


@verb("inspect", example="internlm-zoo inspect internlm-20b/ --deep", asks_hubs=True)
def inspect(
    shell: Shell,
    target: Annotated[
        str,
        typer.Argument(
            metavar="DIR|URL",
            help="A directory in any format, a model, hub:owner/repository(@revision), or a URL.",
        ),
    ],
    options: CheckpointOptions,
    deep: Annotated[bool, "Read all weights: statistics of each tensor, MD5 side-cars."] = False,
    fix_index: Annotated[
        bool, "First write a right index where whole weights have a wrong one, or none."
    ] = False,
    workers: Annotated[int | None, "Threads of --deep; default: one per processor."] = None,
) -> CommandResult:
    """Say what a checkpoint is, from its headers, and name everything that is wrong with it.

    What is on the network is read where it is, and not stored. Exits with 1 if something is wrong.
    """
    import internlm_zoo as zoo

    how = {**options.keywords(), "deep": deep, "fix_index": fix_index, "workers": workers}
    found = _in_flags(shell.call(zoo.inspect, target, **how))
    shell.note(*found.notes)
    smoke = smoke_said(Path(target)) if is_directory(target) else None
    data = {"sound": found.sound, **vars(found), "smoke": smoke}
    return CommandResult(data, _view(found, smoke), exit_code=0 if found.sound else 1)


def _of_each(weights: list[str]) -> tuple[str | None, str | None]:
    if len(weights) > 2:
        raise UsageError(
            "there are two sides, and more sets of weights named", "--weights", "name one of each"
        )
    return (weights[0], weights[-1]) if weights else (None, None)


def _verdict(found: Comparison) -> str:
    differences = ", ".join(f"{name} {one} against {other}" for name, one, other in found.config)
    if found.first is None:
        return f"{found.verdict}: {differences}" if differences else found.verdict
    index, values = found.first.index, found.first.values
    place = f" at {list(index)}: {values[0]:g} against {values[1]:g}" if index and values else ""
    error = f"; largest difference {found.max_error:g}" if values else ""
    config = f"; config: {differences}" if differences else ""
    return f"{found.verdict}: {found.first.tensor}, {found.first.what}{place}{error}{config}"


def _logits(run: LogitsComparison) -> str:
    prompt, position, token = run.where
    where = f" (prompt {prompt}, position {position}, token {token})" if run.max_difference else ""
    places = f"all {run.positions}" if run.choices_agree else f"{run.same_choice} of {run.positions}"
    apart = f"; the tokenizers cut {len(run.other_tokens)} texts differently" if run.other_tokens else ""
    same = f"the likeliest token is the same at {places} positions"
    return f"logits: largest difference {run.max_difference:.3g}{where}; {same}{apart}"


def _in_flags(found: Inspection) -> Inspection:
    findings = [
        replace(one, **{name: text and as_flags(text) for name, text in vars(one).items()})
        for one in found.findings
    ]
    return replace(found, findings=tuple(findings), notes=tuple(map(as_flags, found.notes)))


def _view(found: Inspection, smoke: Mapping[str, Any] | None) -> RenderableType:
    from rich.console import Group

    statistics = ("", _statistics(found)) if found.statistics else ()
    nothing = "nothing is wrong" if found.statistics else "nothing is wrong by the headers"
    return Group(_facts(found, smoke), *statistics, "", _findings(found) if found.findings else nothing)


def _facts(found: Inspection, smoke: Mapping[str, Any] | None) -> TextTable:
    rows = [[name, _shown(fact.value), fact.origin] for name, fact in found.known.items()]
    rows += [["tokenizer", f"{file.size:,} tokens", file.name] for file in found.tokenizer]
    if smoke:
        rows.append(["smoke test", tested(smoke), f"{METADATA}/{SMOKE.file}"])
    files = "1 file" if found.files == 1 else f"{found.files} files"
    title = f"{found.name}: {byte_count(found.nbytes)} of weights in {files}"
    return TextTable(("What", wide("Value"), wide("Known from")), rows, title=title)


def _shown(value: object) -> str:
    return f"{value:,}" if type(value) is int and value >= 10**6 else str(value)


def _findings(found: Inspection) -> TextTable:
    rows = [[one.what, one.where or "", one.fix or ""] for one in found.findings]
    return TextTable([wide(title) for title in ("Wrong", "Where", "What to do")], rows)


def _statistics(found: Inspection) -> TextTable:
    rows = []
    for one in found.statistics:
        measures = [f"{value:.3g}" for value in (one.mean, one.std, one.low, one.high)]
        rows.append([one.name, *measures, f"{one.zeros:,}", f"{one.nans + one.infinities:,}"])
    titles = ("Mean", "Std", "Least", "Most", "Zeros", "Not finite")
    return TextTable([wide("Tensor"), *map(figure, titles)], rows)
