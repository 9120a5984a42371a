"""`score`: what a reward model makes of a conversation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from converters.formats.jsontext import json_value
from internlm_zoo.cli.answers import CommandResult
from internlm_zoo.cli.checkpoint_options import ModelOptions
from internlm_zoo.cli.models import ModelArgument
from internlm_zoo.cli.shell import Shell, verb
from internlm_zoo.errors import NotFoundError, UsageError
from internlm_zoo.fs.homes import require_here
from internlm_zoo.fs.user_files import content_given

Conversation = list[dict[str, str]]

_MOST = 16 << 20
"""Bytes of a conversation."""


@verb("score", example="internlm-zoo score internlm2-7b-reward -p 'What is 1+1?' --answer 2")
def score(
    shell: Shell,
    model: ModelArgument,
    options: ModelOptions,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="A user's turn.")] = None,
    answer: Annotated[str | None, typer.Option("--answer", help="The assistant's turn after it.")] = None,
    chat: Annotated[
        list[Path] | None,
        typer.Option("--chat", help="A JSON list of turns, {role, content}; may be given several times."),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Leave the chat template out.")] = False,
) -> CommandResult:
    """Print the score that a reward model gives to a conversation; of several, one a line.

    The higher, the better it finds the last answer.
    """
    asked = _asked(prompt, answer, chat or [], raw)
    from internlm_zoo.loading.directory import LoadRequest
    from internlm_zoo.loading.load import execute, plan_load
    from internlm_zoo.loading.score import require_scoring
    from internlm_zoo.loading.score import score as score_of

    require_here()
    with shell.progress() as progress:
        request = LoadRequest(model, **options.keywords())
        plan = plan_load(request, settings=shell.settings, progress=progress)
        require_scoring(plan.directory)
        loaded = execute(plan)
    scores = [score_of(loaded, conversation) for conversation in asked]
    return CommandResult(
        {"model": plan.directory.title, "scores": scores}, [f"{value:.4f}" for value in scores]
    )


def _asked(prompt: str | None, answer: str | None, chat: list[Path], raw: bool) -> list[Conversation | str]:
    if (prompt is None) == (not chat):
        raise UsageError("give a prompt with -p, or conversations with --chat", "score")
    if prompt is None:
        if answer is not None or raw:
            raise UsageError("--answer and --raw go with -p", "score")
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
            "it is no conversation",
            file,
            'write [{"role": "user", "content": "..."}, ...], the answer last',
        )
    return turns


def _is_turn(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"role", "content"}
        and all(isinstance(text, str) for text in value.values())
    )
