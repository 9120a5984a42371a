"""Commands on a model that runs: load, generate, score."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from converters.formats.jsontext import json_value
from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.checkpoint_options import Context, MaxMemory, ModelOptions, TargetModel
from internlm_zoo.cli.live import LiveText, Notes
from internlm_zoo.cli.shell import Shell, verb
from internlm_zoo.cli.tables import UNKNOWN, Column, TextTable, figure, wide
from internlm_zoo.errors import NotFoundError, UsageError
from internlm_zoo.fs.homes import require_here
from internlm_zoo.fs.user_files import content_given

if TYPE_CHECKING:
    from internlm_zoo.loading.answer import Answer
    from internlm_zoo.loading.bench import LoadBench
    from internlm_zoo.loading.load import LoadPlan
    from internlm_zoo.loading.placement import DevicePart

Conversation = list[dict[str, str]]
_MOST = 16 << 20  # bytes of a conversation


@verb("load", example="internlm-zoo load internlm-chat-7b --devices cuda:0,cuda:1 --plan")
def load(
    shell: Shell,
    model: TargetModel,
    options: ModelOptions,
    context: Context = None,
    max_memory: MaxMemory = None,
    plan: Annotated[bool, "Print the placement; load nothing, download nothing."] = False,
    bench: Annotated[
        int, typer.Option("--bench", metavar="RUNS", min=0, help="Time it so often, beside from_pretrained.")
    ] = 0,
) -> CommandResult:
    """Load a model onto devices and say what lies where.

    --bench: to the first logits of 8 tokens, mapped and not, each run in a process of its own and in turn;
    beside from_pretrained where the files are in llama format and go to one device.
    """
    import internlm_zoo as zoo

    require_here()
    how = {"context": context, "max_memory": max_memory, **options.keywords()}
    if bench:
        return _timed(shell.call(zoo.bench_load, model, runs=bench, **how))
    planned = shell.call(zoo.plan_load, model, download=not plan, **how)
    start = time.perf_counter()
    if not plan:
        shell.call(zoo.load, planned)
    seconds = None if plan else time.perf_counter() - start
    return CommandResult(_facts(planned, seconds), _placement(planned, seconds))


@verb("generate", example="internlm-zoo generate internlm-chat-7b -p 'What is a proverb?'")
def generate(
    shell: Shell,
    model: TargetModel,
    options: ModelOptions,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="Text to go on from.")],
    max_new_tokens: Annotated[int, "Longest answer, in tokens."] = 64,
    raw: Annotated[bool, "Leave the chat template out."] = False,
    context: Context = None,
    max_memory: MaxMemory = None,
) -> CommandResult:
    """Write what the model says to a prompt, always the most likely token, as it comes.

    A chat model gets the prompt as a user's turn in its chat template. Tokens and seconds come at the end.
    """
    import internlm_zoo as zoo

    require_here()
    plan = shell.call(zoo.plan_load, model, context=context, max_memory=max_memory, **options.keywords())
    live = LiveText()
    how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "raw": raw, "progress": Notes(shell)}
    stream = live.add if shell.answers and not shell.json else None
    answer = zoo.generate(plan, prompt, stream=stream, settings=shell.settings, **how)
    facts = {"model": plan.directory.title, "prompt": prompt, **asdict(answer), "rate": answer.rate}
    if stream is None:
        return CommandResult(facts)
    live.end()
    shell.note(_speed(answer))
    return CommandResult(facts, [])


@verb("score", example="internlm-zoo score internlm2-7b-reward -p 'What is 1+1?' --answer 2")
def score(
    shell: Shell,
    model: TargetModel,
    options: ModelOptions,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="A user's turn.")] = None,
    answer: Annotated[str | None, "The assistant's turn after it."] = None,
    chat: Annotated[
        list[Path] | None, "A JSON list of turns, {role, content}; may be given several times."
    ] = None,
    raw: Annotated[bool, "Leave the chat template out."] = False,
) -> CommandResult:
    """Print the score that a reward model gives to a conversation; of several, one a line.

    The higher, the better it finds the last answer.
    """
    import internlm_zoo as zoo

    asked = _asked(prompt, answer, chat or [], raw)
    require_here()
    plan = shell.call(zoo.plan_load, model, **options.keywords())
    scores = shell.call(zoo.scores, plan, asked)
    data = {"model": plan.directory.title, "scores": scores}
    return CommandResult(data, [f"{value:.4f}" for value in scores])


def _speed(answer: Answer) -> str:
    rate = "" if answer.rate is None else f", {answer.rate:.1f} a second"
    first = f"{answer.first:.1f} s of it for the prompt's {answer.prompt_tokens}"
    return f"{answer.tokens} tokens in {answer.seconds:.1f} s{rate}, {first}"


def _asked(prompt: str | None, answer: str | None, chat: list[Path], raw: bool) -> list[Conversation | str]:
    if (prompt is None) == (not chat):
        raise UsageError("give a prompt, or conversations", "score", "-p TEXT, or --chat FILE")
    if prompt is None:
        if answer is not None or raw:
            raise UsageError(
                "--answer and --raw go with -p", "score", "write the answer as the last turn of the file"
            )
        return [_conversation(file) for file in chat]
    if raw:
        if answer is not None:
            raise UsageError("a raw text has no turns", "--answer", "write it after the prompt")
        return [prompt]
    turns = {"user": prompt} if answer is None else {"user": prompt, "assistant": answer}
    return [[{"role": role, "content": content} for role, content in turns.items()]]


def _conversation(file: Path) -> Conversation:
    try:
        turns = json_value(content_given(file, _MOST + 1), _MOST)
    except OSError as error:
        raise NotFoundError(f"it cannot be read: {error.strerror}", file) from None
    except ValueError as error:
        raise UsageError(f"it is no JSON: {error}", file) from None
    if not isinstance(turns, list) or not turns or not all(map(_is_turn, turns)):
        raise UsageError(
            "it is no conversation", file, 'write [{"role": "user", "content": "..."}, ...], the answer last'
        )
    return turns


def _is_turn(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"role", "content"}
        and all(isinstance(text, str) for text in value.values())
    )


def _timed(bench: LoadBench) -> CommandResult:
    from internlm_zoo.cli.bench_view import bench_facts, bench_table

    return CommandResult({**_facts(bench.plan, None), **bench_facts(bench)}, bench_table(bench))


def _facts(plan: LoadPlan, seconds: float | None) -> dict[str, Any]:
    directory, placement = plan.directory, plan.placement
    model = {"model": directory.title, "path": directory.path, "format": directory.checkpoint.format}
    size = {"dtype": plan.dtype, "parameters": plan.parameters, "bytes": placement.nbytes}
    parts = [_part_facts(part) for part in placement.parts]
    if plan.ranks:
        parts = [{"rank": rank, **part} for rank, part in enumerate(parts)]
    return {**model, **size, "context": plan.context, "parts": parts, "seconds": seconds}


def _part_facts(part: DevicePart) -> dict[str, Any]:
    device = {"device": part.device.name, "free_bytes": part.device.memory}
    layers = {"first_layer": part.first, "last_layer": part.stop - 1}
    ends = {"embedding": part.embedding, "head": part.head}
    on_disk = {"runs_on": part.computes, "read_bytes": part.read}
    return {**device, **layers, **ends, "bytes": part.nbytes, "cache_bytes": part.cache, **on_disk}


def _placement(plan: LoadPlan, seconds: float | None) -> TextTable:
    from internlm_zoo.loading.placement import in_units

    rows = []
    for rank, part in enumerate(plan.placement.parts):
        free = UNKNOWN if part.device.memory is None else in_units(part.device.memory)
        sizes = in_units(part.nbytes), in_units(part.cache), free
        device = part.device.name + (f", read by {part.runs_on}" if part.runs_on else "")
        where = f"rank {rank}, {device}" if plan.ranks else device
        rows.append((where, _holds(part), *sizes))
    done = "planned, nothing loaded" if seconds is None else f"loaded in {seconds:.1f} s"
    size = f"{plan.parameters:,} parameters in {plan.dtype}, {in_units(plan.placement.nbytes)}"
    cache = Column(f"{plan.context:,} tokens", "right", narrow="drop")
    free_before = Column("free before", "right", narrow="drop")
    titles = ("device", wide("holds"), figure("size"), cache, free_before)
    return TextTable(titles, rows, title=f"{plan.directory.title}: {size}, {done}")


def _holds(part: DevicePart) -> str:
    one = part.first == part.stop - 1
    layers = f"layer {part.first}" if one else f"layers {part.first} to {part.stop - 1}"
    ends = ["embedding"] * part.embedding, ["norm", "head"] * part.head
    return ", ".join([*ends[0], layers, *ends[1]])
