"""SIGINT, SIGTERM and SIGHUP end a command alike: what is done is kept, within a second it is over.

The program is often process 1 of a container, for which the system ignores what it does not handle. One that
was ignored already (nohup) stays so. Python hears of a signal only between two steps of its own, so a thread
sees to the second; a second signal ends at once. The Python API leaves signals to its caller: this is for the
command line alone.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT

_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up", "SIGBREAK": "interrupted"}
_GRACE_SECONDS, _POLL_SECONDS = 0.9, 0.05  # with the interpreter's own end it is a second
_SHOW_CURSOR = b"\x1b[?25h"  # a display that is cut off has hidden it


class SignalReceived(KeyboardInterrupt):
    """A signal that ends the command. Whatever lets a KeyboardInterrupt pass lets it pass."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number
        self.word = _WORDS[signal.Signals(number).name]


@dataclass
class _Shutdown:
    """first: the signal that ends this process; 0: none came yet. unwinding: another one ends it at once.
    dropped: it was raised where Python drops what is raised. in_dialogue: SIGINT is no end by itself; answer:
    what it sets once instead."""

    first: int = 0
    unwinding: bool = False
    dropped: bool = False
    in_dialogue: bool = False
    answer: threading.Event | None = None


_shutdown = _Shutdown()


def install_handlers() -> None:
    """From now on, in a process that is the command line's own."""
    for name in _WORDS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    sys.unraisablehook = _on_unraisable
    if sys.platform != "win32":
        _watch()


@contextmanager
def dialogue() -> Iterator[None]:
    """Inside, SIGINT is a KeyboardInterrupt and no more: who asks a person again may go on after it."""
    _shutdown.in_dialogue = True
    try:
        yield
    finally:
        _shutdown.in_dialogue = False


@contextmanager
def answering() -> Iterator[threading.Event]:
    """In a dialogue: the first SIGINT sets the event, and interrupts nothing."""
    _shutdown.answer = threading.Event()
    try:
        yield _shutdown.answer
    finally:
        _shutdown.answer = None


def outcome(code: int) -> int:
    """The exit code of the process, whose command came to this one: a library may have made something else of
    a signal. What comes from now on ends it at once."""
    _shutdown.unwinding = True
    return 128 + _shutdown.first if code and _shutdown.first else code


def message_of(error: KeyboardInterrupt) -> str:
    return error.word if isinstance(error, SignalReceived) else _WORDS["SIGINT"]


def code_of(error: BaseException | None) -> int:
    """The exit code of an interrupt, also of one in the guise of another exception."""
    while error is not None:
        if isinstance(error, SignalReceived):
            return error.exit_code
        error = error.__cause__ or error.__context__
    return INTERRUPTED


def _on_signal(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT and _shutdown.in_dialogue:
        answer = _shutdown.answer
        if answer is None or answer.is_set():
            raise KeyboardInterrupt
        return answer.set()
    if _shutdown.unwinding:
        _exit_now(number)
    _shutdown.first, _shutdown.unwinding = number, True
    raise SignalReceived(number)


def _on_unraisable(what: sys.UnraisableHookArgs) -> None:
    """A signal may come while an object is taken apart, from where nothing is raised: it is to come again."""
    if isinstance(what.exc_value, SignalReceived):
        _shutdown.unwinding, _shutdown.dropped = False, True
    else:
        sys.__unraisablehook__(what)


def _watch() -> None:
    """The system writes each signal into a pipe, whatever the main thread is at."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    with suppress(RuntimeError):  # no more threads: the main thread is heard of all the same
        threading.Thread(target=_enforce, args=(reading,), name="signals", daemon=True).start()


def _enforce(reading: int) -> None:
    ending = {getattr(signal, name) for name in _WORDS if hasattr(signal, name)}
    while (number := os.read(reading, 1)[0]) not in ending or _is_an_answer(number):
        pass
    _shutdown.first, end = number, time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
        if _shutdown.dropped:
            _shutdown.dropped = False
            os.kill(os.getpid(), number)
    _exit_now(number)


def _is_an_answer(number: int) -> bool:
    return number == signal.SIGINT and _shutdown.in_dialogue


def _exit_now(number: int) -> NoReturn:
    if os.isatty(2):
        os.write(2, _SHOW_CURSOR)
    os._exit(128 + number)  # what runs at exit may wait for a disk that hangs
