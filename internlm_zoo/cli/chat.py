"""`chat`: a conversation with a model, on a terminal or in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from internlm_zoo.cli.answers import CommandResult, print_error
from internlm_zoo.cli.checkpoint_options import Context, MaxMemory, ModelOptions, TargetModel
from internlm_zoo.cli.live import LiveText
from internlm_zoo.cli.shell import Shell, verb
from internlm_zoo.cli.signals import SignalReceived, answering, dialogue
from internlm_zoo.errors import UnsupportedError, UsageError, ZooError
from internlm_zoo.fs.homes import require_here

if TYPE_CHECKING:
    from internlm_zoo.loading.answer import Answer
    from internlm_zoo.loading.chat import Chat

_PROMPT = "> "
_MOST = 16 << 20  # characters of a turn
_COMMANDS = {
    "/help": "this list",
    "/reset": "begin a new conversation",
    "/exit": "end; so does the end of the input (Ctrl-D)",
}
_HELP = (
    *(f"{name:8}{what}" for name, what in _COMMANDS.items()),
    "Ctrl-C stops an answer; at an empty prompt it ends",
)


@verb("chat", example="internlm-zoo chat internlm2-chat-7b")
def chat(
    shell: Shell,
    model: TargetModel,
    options: ModelOptions,
    system: Annotated[str | None, "What the model is told before all turns."] = None,
    max_new_tokens: Annotated[int, "Longest answer, in tokens."] = 512,
    context: Context = None,
    max_memory: MaxMemory = None,
) -> CommandResult:
    """Talk with a model: each line is a turn, and it remembers those before.

    /reset begins anew, /exit or the end of the input ends, /help says what there is. Ctrl-C stops an answer,
    and at the prompt it ends. From a pipe every line is answered, with the answers alone on stdout.
    """
    import internlm_zoo as zoo

    if options.parallel != "layers":
        raise UnsupportedError("a chat is held by one process", "--parallel", "leave it out")
    require_here()
    room = {"context": context, "max_memory": max_memory}
    how = {"max_new_tokens": max_new_tokens, **room, **options.keywords()}
    session = shell.call(zoo.chat, model, system=system, **how)
    if _is_typed():
        shell.note("each line is a turn; /help says what else there is")
    with dialogue():
        turns = list(_held(shell, session))
    return CommandResult({"model": session.title, "system": system, "turns": turns}, [])


def _held(shell: Shell, session: Chat) -> Iterator[dict[str, Any]]:
    """Every turn that was answered."""
    for line in _lines():
        if line == "/exit":
            return
        if line == "/reset":
            session.reset()
        elif line == "/help":
            shell.note(*_HELP)
        elif line.startswith("/") and line[1:].isalpha():
            shell.note(f"there is no {line}: {', '.join(_COMMANDS)}")
        elif line and (answer := _answered(shell, session, line)):
            yield {"prompt": line, **asdict(answer), "rate": answer.rate}


def _answered(shell: Shell, session: Chat, text: str) -> Answer | None:
    """None where that is refused, and a person may say something else."""
    live = LiveText()
    try:
        with answering() as stop:
            answer = session.ask(text, stream=None if shell.json else live.add, cancel=stop)
    except ZooError as error:
        if not _is_typed():
            raise
        print_error(error, as_json=False, debug=shell.debug)
        return None
    finally:
        if live.begun:
            live.end()
    if stop.is_set():
        shell.note("stopped")
    return answer


def _is_typed() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _lines() -> Iterator[str]:
    """What a person types, or a pipe brings, until its end. Raises KeyboardInterrupt at an empty prompt."""
    asked = _typed if _is_typed() else _piped
    try:
        while (line := asked()) is not None:
            yield line.strip()
    except UnicodeDecodeError:
        what = "what it brings is no text in this locale's encoding"
        raise UsageError(what, "stdin", "give it UTF-8, with PYTHONUTF8=1 or a UTF-8 locale") from None


def _typed() -> str | None:
    """With line editing where the system has it and stdout is a terminal: else the prompt is on stderr."""
    if not sys.stdout.isatty():
        sys.stderr.write(_PROMPT)
        sys.stderr.flush()
        return sys.stdin.readline() or None
    editor = _line_editor()
    try:
        return input(_PROMPT)
    except EOFError:
        sys.stdout.write("\n")
        return None
    except KeyboardInterrupt as error:
        sys.stdout.write("\n")
        ends = isinstance(error, SignalReceived) or editor is None
        if ends or not editor.get_line_buffer():
            raise
        return ""


def _line_editor() -> Any:
    """What `input` uses once it is imported; None where the system has none."""
    try:
        import readline
    except ImportError:
        return None
    return readline


def _piped() -> str | None:
    line = sys.stdin.readline(_MOST) if sys.stdin else ""
    if len(line) == _MOST:
        raise UsageError(f"a line has more than {_MOST:,} characters", "stdin", "break it into turns")
    return line or None
