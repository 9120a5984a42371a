"""The process in which a checkpoint's tokenizer and chat template run: without torch, without the network,
and within limits that the system keeps where it has such.

It is given one request after the other and answers each with a value or with what went wrong. What is killed
for the limits, or crashes, answers nothing; whoever asked sees that.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, BinaryIO

from internlm_zoo.loading.sandbox.frames import receive, send

HELD = 2
"""Tokenizers kept: as many as are compared with each other."""
_SHOWN = 300
_GRACE = 2  # seconds for the signal to become an answer; then the system ends it
# Models and what they run on, none of which a tokenizer needs.
_ABSENT = ("torch", "tensorflow", "jax", "flax", "keras")
_TEMPLATE = "<template>"
# Errors that say the line of the template themselves; those of Python's own compiler say that of its code.
_NUMBERED = ("TemplateSyntaxError", "TemplateAssertionError")


class OvertimeError(Exception):
    """The processor's time for this request is over."""


class TooLongError(Exception):
    """More came out than may."""


Answer = dict[str, Any]


def serve() -> None:
    """Answer until nobody asks any more."""
    questions, answers = _streams()
    _go_first()
    absent: dict[str, Any] = dict.fromkeys(_ABSENT)
    sys.modules.update(absent)  # to import one fails as where it is not installed
    try:
        from transformers import PreTrainedTokenizerFast
    except BaseException as error:  # noqa: BLE001 - told to whoever asks
        send(answers, {"error": _told("start", error)})
        return
    held: dict[str, Any] = {}
    send(answers, {"ready": True})
    while question := receive(questions):
        send(answers, _answer(question, held, PreTrainedTokenizerFast))


def _streams() -> tuple[BinaryIO, BinaryIO]:
    """Questions and answers. What a library prints goes where errors go."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return os.fdopen(os.dup(0), "rb"), answers


def _go_first() -> None:
    """Where a container's memory is full, this process is to end and not the one with the model."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _answer(question: Answer, held: dict[str, Any], kind: Any) -> Answer:
    if question["of"] not in held and question["do"] != "open":
        return {"unknown": True}
    _confine(question["seconds"], question["memory"])
    try:
        return _WORK[question["do"]](question, held, kind)
    except BaseException as error:  # noqa: BLE001 - a panic in Rust is no Exception
        return {"error": _told(question["do"], error)}
    finally:
        _release()


def _open(question: Answer, held: dict[str, Any], kind: Any) -> Answer:
    tokenizer = held.pop(question["of"], None) or _read(Path(question["folder"]), kind)
    held[question["of"]] = tokenizer
    while len(held) > HELD:
        del held[next(iter(held))]
    return {"template": tokenizer.chat_template is not None}


def _read(folder: Path, kind: Any) -> Any:
    return kind.from_pretrained(folder, local_files_only=True)


def _encode(question: Answer, held: dict[str, Any], kind: Any) -> Answer:
    tokenizer = held[question["of"]]
    ids = tokenizer(question["text"], add_special_tokens=question["special"]).input_ids
    return {"ids": _bounded(ids, question["most"])}


def _decode(question: Answer, held: dict[str, Any], kind: Any) -> Answer:
    text = held[question["of"]].decode(question["ids"], skip_special_tokens=True)
    return {"text": _bounded(str(text), question["most"])}


def _render(question: Answer, held: dict[str, Any], kind: Any) -> Answer:
    tokenizer = held[question["of"]]
    text = tokenizer.apply_chat_template(
        question["messages"],
        chat_template=question["template"],
        tokenize=False,
        add_generation_prompt=question["answer"],
    )
    return {"text": _bounded(str(text), question["most"])}


def _id(question: Answer, held: dict[str, Any], kind: Any) -> Answer:
    return {"id": held[question["of"]].backend_tokenizer.token_to_id(question["token"])}


_WORK: dict[str, Callable[[Answer, dict[str, Any], Any], Answer]] = {
    "open": _open,
    "encode": _encode,
    "decode": _decode,
    "render": _render,
    "id": _id,
}


def _bounded(value: Any, most: int) -> Any:
    if len(value) > most:
        raise TooLongError(str(len(value)))
    return value


def _told(doing: str, error: BaseException) -> Answer:
    kinds = {OvertimeError: "time", MemoryError: "memory", TooLongError: "long"}
    kind = next((name for of, name in kinds.items() if isinstance(error, of)), doing)
    return {"kind": kind, "name": type(error).__name__, "text": str(error)[:_SHOWN], "line": _line(error)}


def _line(error: BaseException) -> int | None:
    """Of the template."""
    found: int | None = getattr(error, "lineno", None) if type(error).__name__ in _NUMBERED else None
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _TEMPLATE:
            found = trace.tb_lineno
        trace = trace.tb_next
    return found


def _confine(seconds: int, memory: int) -> None:
    """From now on, where the system can: the first is told as an error, the others end this process."""
    if sys.platform == "win32":
        return
    import resource

    signal.signal(signal.SIGPROF, _overtime)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    _lower(resource.RLIMIT_CPU, int(used) + seconds + _GRACE)
    _lower(resource.RLIMIT_CORE, 0)  # a core dump would hold what users said
    _lower(resource.RLIMIT_FSIZE, 0)  # it writes no file
    taken = _taken()
    if taken is not None:
        _lower(resource.RLIMIT_AS, taken + memory)


def _release() -> None:
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, 0)


def _overtime(number: int, frame: FrameType | None) -> None:
    raise OvertimeError(number)


def _lower(which: int, most: int) -> None:
    import resource

    hard = resource.getrlimit(which)[1]
    resource.setrlimit(which, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _taken() -> int | None:
    """Bytes of addresses that this process has; None where only whoever asks can watch over it."""
    import resource

    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    except OSError:
        return None
    return int(pages) * resource.getpagesize()
